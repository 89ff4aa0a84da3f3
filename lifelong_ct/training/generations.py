"""The checkpoints of a run, with the exemplars that they name: the last few are kept, a damaged one is passed over.

`after_NNN` is of the end of an experience. `within_NNN_step_NNNNNN` is of the middle of one and lies on top of the
checkpoint at the end of the experience before, if there is any.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lifelong_ct.core.errors import CheckpointError, LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.memory import rows
from lifelong_ct.memory.files import ExemplarFiles
from lifelong_ct.training import checkpoint


class Found(NamedTuple):
    """Where a run goes on: `after` an experience, and `within` the next one; None where there is nothing of it."""

    after: dict[str, Any] | None
    within: dict[str, Any] | None = None


class Generations:
    """`checkpoints` of a run folder.

    Args:
        folder: of the checkpoints.
        keep: how many of ends of experiences stay; within one there is the last.
        ledger: told what they take.
        note: told what is damaged.
        exemplars: files that they name; told which are needed.
        ranks: that resume from them; the first one writes.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        ledger: Ledger,
        note: Callable[[str], None],
        exemplars: ExemplarFiles,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.folder, self.keep, self.ledger, self.note = folder, keep, ledger, note
        self.exemplars = exemplars

    def save(self, after: int, state: dict[str, Any]) -> None:
        """Writes one of the end of an experience, and removes those that are too old, and all within experiences."""
        if not self.ranks.first:
            return
        checkpoint.save(self.folder / f"after_{after:03d}", state)
        checkpoint.prune(self.folder, self.keep)
        self._only(None)

    def save_within(self, after: int, step: int, state: dict[str, Any]) -> None:
        """Writes one of the middle of experience `after`; those before it go. `state["base"]` is the experience whose
        checkpoint it lies on, 0 for none."""
        if not self.ranks.first:
            return
        path = self.folder / f"within_{after:03d}_step_{step:06d}"
        checkpoint.save(path, state)
        self._only(path)

    def newest(self) -> Found:
        """The newest that is whole. The first rank finds it, and the others read it too."""
        found, name = self._newest() if self.ranks.first else (Found(None), None)
        name = self.ranks.gather(name)[0]
        if name is not None and not self.ranks.first:
            found = self._found(self.folder / name)
        self.ranks.gather(None)  # nobody writes before all have read
        return found

    def _newest(self) -> tuple[Found, str | None]:
        problem: CheckpointError | None = None
        self.exemplars.name(named(self.folder))
        for folder in sorted(written(self.folder), key=_progress, reverse=True):
            try:
                return self._found(folder), folder.name
            except CheckpointError as error:
                problem = error
                self.note(f"{folder.name} is damaged, an older one is tried: {error.what}")
        if problem is not None:
            self.note("no checkpoint is whole: the run starts again")
        return Found(None), None

    def _found(self, folder: Path) -> Found:
        state = self._whole(folder)
        if folder.name.startswith("after_"):
            return Found(state)
        base = int(state["base"])
        return Found(self._whole(self.folder / f"after_{base:03d}") if base else None, state)

    def _whole(self, folder: Path) -> dict[str, Any]:
        state = checkpoint.load(folder)
        for id in beside(state):
            self.exemplars.get(id)
        return state

    def _only(self, within: Path | None) -> None:
        for old in self.folder.glob("within_*"):
            if old != within:
                shutil.rmtree(old)
        self.exemplars.name(named(self.folder))
        held = sum(map(checkpoint.nbytes, written(self.folder)))
        self.ledger.use("disk", "checkpoints", held)


def written(folder: Path) -> list[Path]:
    """Every checkpoint of a folder."""
    return sorted((*folder.glob("after_*"), *folder.glob("within_*")))


def _progress(path: Path) -> tuple[int, float]:
    """Experience and step; the end of an experience comes after all its steps."""
    _, after, *step = path.name.split("_")
    return int(after), int(step[-1]) if step else float("inf")


def named(folder: Path) -> set[str]:
    """Exemplars that lie beside the checkpoints of a folder, named by any of them; what cannot be read names none."""
    ids: set[str] = set()
    for path in written(folder):
        with suppress(LifelongCTError):
            ids.update(beside(checkpoint.structure(path)))
    return ids


def beside(state: dict[str, Any]) -> set[str]:
    """Exemplars that the state of a run names and does not hold."""
    return {row["id"] for own in rows.states(state) if "blobs" not in own for row in own["rows"]}
