"""What an experience is scored on: the cells of the result matrix that are its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Hospitals and organs that belong to an experience.

    Attributes:
        hospitals: whose test cases count; the score is the mean over them.
        organs: that are learnt in it; None for all that the hospitals' test cases annotate.
    """

    hospitals: tuple[str, ...]
    organs: tuple[str, ...] | None = None

    def learnable(self, seen: frozenset[str]) -> tuple[str, ...] | None:
        """Its organs that were annotated so far: of the others no model can know. None for all."""
        return None if self.organs is None else tuple(organ for organ in self.organs if organ in seen)

    def of(self, organ: str) -> Task:
        """The part that is about one organ; no organ where that is not of the task."""
        return Task(self.hospitals, (organ,) if self.organs is None or organ in self.organs else ())


def seen_after(tasks: Sequence[Task], after: int) -> frozenset[str]:
    """Organs of the first `after` experiences."""
    return frozenset(organ for task in tasks[:after] for organ in task.organs or ())
