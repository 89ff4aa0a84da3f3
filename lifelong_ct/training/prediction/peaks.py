"""What a rehearsal has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Peak:
    """Of a phase.

    Attributes:
        phase: its name.
        nbytes: most bytes that tensors held in it.
        kinds: kind → bytes of it then; their sum is `nbytes`.
    """

    phase: str
    nbytes: int
    kinds: Mapping[str, int]


@dataclass(frozen=True)
class Prediction:
    """Of a run.

    Attributes:
        phases: in order.
        growth: bytes that a strategy declares for all experiences beyond what it held in the last of these.
        basis: how it was found.
    """

    phases: Sequence[Peak]
    growth: int
    basis: str

    @property
    def worst(self) -> Peak:
        """The phase with the highest peak."""
        return max(self.phases, key=lambda phase: phase.nbytes)

    @property
    def peak(self) -> int:
        """Most bytes of the run."""
        return self.worst.nbytes + self.growth

    @property
    def kinds(self) -> dict[str, int]:
        """Kind → bytes of `peak`, the largest first."""
        rows = {**self.worst.kinds, **({"later hospitals": self.growth} if self.growth else {})}
        return dict(sorted(rows.items(), key=lambda row: -row[1]))
