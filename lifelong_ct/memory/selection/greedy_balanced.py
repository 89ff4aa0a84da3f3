"""The greedy balancing sampler of GDumb."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import derive_seed
from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.recent import in_order

GROUPS = ("hospital", "organ")


class GreedyBalanced:
    """Lets whoever comes first in, and makes room for groups that have less than their share.

    Prabhu et al., "GDumb", ECCV 2020, algorithm 1, with bytes for the number of samples: a newcomer is kept if its
    group is new or holds less than budget / number of groups. Where it does not fit, items of the largest group leave,
    drawn at random, until it does. Otherwise it is dropped. An item of a group that has its share never takes another's
    place, so the first ones of a hospital stay.

    The algorithm is run over all that is there, in the order of its offers: what it kept before it keeps again, since
    its group held no less then. Patches that nobody says when they were offered come first, in the order of their ids.

    Args:
        by: what a group is: the hospital (or step of a stream) that an item comes from; or the organ with the most
            voxels in it, which its description tells.
    """

    def __init__(self, by: str = "hospital") -> None:
        if by not in GROUPS:
            raise LifelongCTError(f"by={by!r}", "strategy.plugins.selection", f"use {' or '.join(GROUPS)}")
        self.by = by
        self.needs = frozenset({"offered", "organs"} if by == "organ" else {"offered"})

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; the kept ones sum to at most `budget` bytes. What is gone is
        forgotten."""
        groups: dict[str, list[int]] = defaultdict(list)
        held: dict[str, int] = {}
        for new in in_order(descriptors):
            size, own = descriptors[new].nbytes, self._group(descriptors[new])
            if size > budget or (own in held and held[own] >= budget / len(held)):
                continue
            while sum(held.values()) + size > budget:
                largest = max(held, key=lambda group: held[group])
                leaves = min(groups[largest], key=lambda i: self._lot(descriptors, i, new, seed))
                groups[largest].remove(leaves)
                held[largest] -= descriptors[leaves].nbytes
            groups[own].append(new)
            held[own] = held.get(own, 0) + size
        kept = {i for members in groups.values() for i in members}
        return [i in kept for i in range(len(descriptors))]

    def _group(self, descriptor: Descriptor) -> str:
        if self.by == "hospital":
            return descriptor.hospital
        organs = descriptor.description.organs
        return max(organs, key=lambda organ: (organs[organ], organ), default="")

    @staticmethod
    def _lot(descriptors: Sequence[Descriptor], i: int, new: int, seed: int) -> int:
        """A number that is drawn anew for each newcomer."""
        return derive_seed(seed, "greedy", descriptors[new].id, descriptors[i].id)
