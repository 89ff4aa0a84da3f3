"""The checkpoints of a run, with the exemplars that they name: the last few are kept, a damaged one is passed over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import CheckpointError, LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory import rows
from lifelong_ct.memory.files import ExemplarFiles
from lifelong_ct.training import checkpoint


class Generations:
    """`checkpoints/after_NNN` of a run folder.

    Args:
        folder: of the checkpoints.
        keep: how many stay.
        ledger: told what they take.
        note: told what is damaged.
        exemplars: files that they name; told which are needed.
    """

    def __init__(
        self, folder: Path, keep: int, ledger: Ledger, note: Callable[[str], None], exemplars: ExemplarFiles
    ) -> None:
        self.folder, self.keep, self.ledger, self.note = folder, keep, ledger, note
        self.exemplars = exemplars

    def save(self, after: int, state: dict[str, Any]) -> None:
        """Writes one, and removes those that are too old."""
        checkpoint.save(self.folder / f"after_{after:03d}", state)
        checkpoint.prune(self.folder, self.keep)
        self.exemplars.name(named(self.folder))
        held = sum(map(checkpoint.nbytes, self.folder.glob("after_*")))
        self.ledger.use("disk", "checkpoints", held)

    def newest(self) -> dict[str, Any] | None:
        """The state of the newest that is whole; None where there is none."""
        problem: CheckpointError | None = None
        self.exemplars.name(named(self.folder))
        for folder in sorted(self.folder.glob("after_*"), reverse=True):
            try:
                return self._whole(folder)
            except CheckpointError as error:
                problem = error
                self.note(f"{folder.name} is damaged, an older one is tried: {error.what}")
        if problem is not None:
            self.note("no checkpoint is whole: the run starts again")
        return None

    def _whole(self, folder: Path) -> dict[str, Any]:
        state = checkpoint.load(folder)
        for id in beside(state):
            self.exemplars.get(id)
        return state


def named(folder: Path) -> set[str]:
    """Exemplars that lie beside the checkpoints of a folder, named by any of them; what cannot be read names none."""
    ids: set[str] = set()
    for path in folder.glob("after_*"):
        with suppress(LifelongCTError):
            ids.update(beside(checkpoint.structure(path)))
    return ids


def beside(state: dict[str, Any]) -> set[str]:
    """Exemplars that the state of a run names and does not hold."""
    return {row["id"] for own in rows.states(state) if "blobs" not in own for row in own["rows"]}
