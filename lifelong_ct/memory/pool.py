"""Exemplars in the order of arrival, and a quick way to the i-th of those that one hospital did not bring."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence

from lifelong_ct.memory.parts import Exemplar


class Pool:
    """A fixed set of exemplars.

    Args:
        kept: in the order of arrival.
    """

    def __init__(self, kept: Sequence[Exemplar]) -> None:
        self.kept = tuple(kept)
        self._before: dict[str, list[int]] = defaultdict(list)
        for place, exemplar in enumerate(kept):
            own = self._before[exemplar.origin.hospital]
            own.append(place - len(own))  # how many of other hospitals stand before it: never falls

    def size(self, without: str | None) -> int:
        """How many there are, those of the hospital `without` left out."""
        return len(self.kept) - len(self._before.get(without or "", ()))

    def at(self, i: int, without: str | None) -> Exemplar:
        """The i-th of them."""
        return self.kept[i + bisect_right(self._before.get(without or "", ()), i)]
