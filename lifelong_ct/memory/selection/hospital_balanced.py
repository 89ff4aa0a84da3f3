"""Equal shares for hospitals."""

from __future__ import annotations

from collections.abc import Sequence

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.shares import answers, fitting, lot, share_out

_NAME = "hospital_balanced"


class HospitalBalanced:
    """Gives every hospital the same bytes, and keeps a uniform sample of each.

    Class-balancing reservoir sampling (Chrysakis & Moens, "Online Continual Learning from Imbalanced Data", ICML
    2020, algorithm 1) with the hospital as the class: hospitals that have more than their share make room for the
    others, and within a hospital everything that was ever offered has equal right. What a hospital does not fill the
    others share. Within a hospital it is `Reservoir`: the smallest random priorities stay, and one that does not fit
    ends the search, now and ever after, so that small patches are not preferred.
    """

    needs: frozenset[str] = frozenset()

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; of a hospital's gone ones at most that which ends its search."""
        queues = [_open(descriptors, queue) for queue in _queues(descriptors, seed)]
        kept = share_out(
            descriptors,
            [members for members, _ in queues if members],
            budget,
            lambda members, room: fitting(descriptors, members, room),
        )
        held = set(kept)
        ends = [end for members, end in queues if held.issuperset(members)]
        return answers(descriptors, [*kept, *(end for end in ends if end is not None)])

    def turns_away(self, newcomer: Descriptor, gone: Sequence[Descriptor], seed: int) -> bool:
        """Whether its hospital's search ends before it."""
        own = (d for d in gone if d.hospital == newcomer.hospital)
        return any(lot(seed, _NAME, d) < lot(seed, _NAME, newcomer) for d in own)


def _queues(descriptors: Sequence[Descriptor], seed: int) -> list[list[int]]:
    """Per hospital the positions of its descriptors, the smallest priority first."""
    queues: dict[str, list[int]] = {}
    lots = [(lot(seed, _NAME, d), d.id, d.gone) for d in descriptors]
    for i in sorted(range(len(descriptors)), key=lots.__getitem__):
        queues.setdefault(descriptors[i].hospital, []).append(i)
    return list(queues.values())


def _open(descriptors: Sequence[Descriptor], queue: list[int]) -> tuple[list[int], int | None]:
    """Those before the first that is gone, and that."""
    for n, i in enumerate(queue):
        if descriptors[i].gone:
            return queue[:n], i
    return queue, None
