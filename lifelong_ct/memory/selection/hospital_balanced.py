"""Equal shares for hospitals."""

from __future__ import annotations

from collections.abc import Sequence

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.shares import lot, shares


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
        queues = _queues(descriptors, seed)
        wanted = {h: sum(_open(descriptors, queue)) for h, queue in queues.items()}
        keep = [False] * len(descriptors)
        for hospital, room in shares(wanted, budget).items():
            for i in queues[hospital]:
                room -= descriptors[i].nbytes
                if descriptors[i].gone or room < 0:
                    keep[i] = descriptors[i].gone
                    break
                keep[i] = True
        return keep


def _queues(descriptors: Sequence[Descriptor], seed: int) -> dict[str, list[int]]:
    """Hospital → positions of its descriptors, the smallest priority first."""
    queues: dict[str, list[int]] = {}
    lots = [(lot(seed, "hospital_balanced", d), d.id, d.gone) for d in descriptors]
    for i in sorted(range(len(descriptors)), key=lots.__getitem__):
        queues.setdefault(descriptors[i].hospital, []).append(i)
    return queues


def _open(descriptors: Sequence[Descriptor], queue: Sequence[int]) -> list[int]:
    """Sizes of those before the first that is gone."""
    end = next((n for n, i in enumerate(queue) if descriptors[i].gone), len(queue))
    return [descriptors[i].nbytes for i in queue[:end]]
