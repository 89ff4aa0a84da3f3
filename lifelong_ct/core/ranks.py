"""The processes that train one model together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class Ranks:
    """One process alone, whose answers need nobody. A group of several derives from it; then all of them call the same
    methods in the same order.

    Attributes:
        rank: number of this process.
        size: how many there are.
    """

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """The value of each rank, in order, on all of them."""
        return [value]

    def collect(self, value: Any) -> list[Any]:
        """The value of each rank, in order, on the first; on the others nothing."""
        return [value]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes its mean over the ranks, in place: float, of equal shapes everywhere."""

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes that of the first rank, in place."""
