"""The checkpoints of a run: the last few are kept, a damaged one is passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import CheckpointError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.training import checkpoint


class Generations:
    """`checkpoints/after_NNN` of a run folder.

    Args:
        folder: of the checkpoints.
        keep: how many stay.
        ledger: told what they take.
        note: told what is damaged.
    """

    def __init__(self, folder: Path, keep: int, ledger: Ledger, note: Callable[[str], None]) -> None:
        self.folder, self.keep, self.ledger, self.note = folder, keep, ledger, note

    def save(self, after: int, state: dict[str, Any]) -> None:
        """Writes one, and removes those that are too old."""
        checkpoint.save(self.folder / f"after_{after:03d}", state)
        checkpoint.prune(self.folder, self.keep)
        held = sum(map(checkpoint.nbytes, self.folder.glob("after_*")))
        self.ledger.use("disk", "checkpoints", held)

    def newest(self) -> dict[str, Any] | None:
        """The state of the newest that is whole; None where there is none."""
        problem: CheckpointError | None = None
        for folder in sorted(self.folder.glob("after_*"), reverse=True):
            try:
                return checkpoint.load(folder)
            except CheckpointError as error:
                problem = error
                self.note(f"{folder.name} is damaged, an older one is tried: {error.what}")
        if problem is not None:
            self.note("no checkpoint is whole: the run starts again")
        return None
