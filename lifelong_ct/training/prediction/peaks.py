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
        last: whether it is of the last experience that was looked at, or follows it: those of later ones are like it.
    """

    phase: str
    nbytes: int
    kinds: Mapping[str, int]
    last: bool = False


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
        """The phase with the highest peak, as it is at the end of the stream."""
        return max(self.phases, key=self._at_the_end)

    @property
    def peak(self) -> int:
        """Most bytes of the run."""
        return self._at_the_end(self.worst)

    @property
    def kinds(self) -> dict[str, int]:
        """Kind → bytes of `peak`, the largest first."""
        more = self.peak - self.worst.nbytes
        rows = {**self.worst.kinds, **({"later hospitals": more} if more else {})}
        return dict(sorted(rows.items(), key=lambda row: -row[1]))

    def _at_the_end(self, phase: Peak) -> int:
        return phase.nbytes + (self.growth if phase.last else 0)
