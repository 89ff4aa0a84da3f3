"""Reservoir sampling under a byte budget."""

from __future__ import annotations

from collections.abc import Sequence

from lifelong_ct.memory.selection import Descriptor


class Reservoir:
    """Keeps a uniform sample of everything that was offered.

    Each item has a random priority that depends on its content and the seed only; the smallest
    priorities that fit the budget stay. With items of one size this is Vitter's reservoir (ACM TOMS 1985)
    in its bottom-k form (Cohen & Kaplan, PODC 2007), whose result does not depend on the order of arrival.
    With compressed sizes that differ, an item that does not fit ends the search, now and ever after, so
    that small items are not preferred and the order of arrival still does not matter.
    """

    needs: frozenset[str] = frozenset()

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; the kept ones sum to at most `budget` bytes."""
        priority = [(d.draw(seed, "reservoir"), d.gone) for d in descriptors]
        keep = [False] * len(descriptors)
        left = budget
        for i in sorted(range(len(descriptors)), key=priority.__getitem__):
            if descriptors[i].gone or descriptors[i].nbytes > left:
                keep[i] = descriptors[i].gone
                break
            keep[i] = True
            left -= descriptors[i].nbytes
        return keep

    def turns_away(self, newcomer: Descriptor, gone: Sequence[Descriptor], seed: int) -> bool:
        """Whether the search ends before it."""
        return any(d.draw(seed, "reservoir") < newcomer.draw(seed, "reservoir") for d in gone)
