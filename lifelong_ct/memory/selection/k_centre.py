"""Patches to which none of the others is far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.memory.selection.shares import answers, fitting, lot, pools, present, share_out
from lifelong_ct.memory.selection.vectors import stacked


class KCentre:
    """Patches chosen so that the farthest of the others is near to one of them.

    k-centre greedy (Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR
    2018, arXiv 1708.00489, algorithm 1): the next centre is the patch that is farthest from its nearest centre, by
    Euclidean distance of features. Its radius is at most twice the best one (Gonzalez, Theoretical Computer
    Science 1985). The first centre is drawn by content. Outliers stay; hospitals have no share of their own. The first
    of the order that does not fit ends it, whatever its size, so that small patches are not preferred.

    Args:
        pool: patches that are compared with each other, about; a larger memory is cut into such pools at random.
    """

    needs: frozenset[str] = frozenset({"embedding"})

    def __init__(self, pool: int = 256) -> None:
        self.pool = whole(pool, "selection.pool", least=2)

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; nothing that is gone is kept."""

        def choose(members: list[int], room: int) -> list[int]:
            lots = [lot(seed, "k_centre", descriptors[i]) for i in members]
            rows = stacked(descriptors, members, "embedding")
            order = farthest_first(rows, lots.index(min(lots)))
            return fitting(descriptors, (members[n] for n in order), room)

        groups = pools(descriptors, present(descriptors), seed, self.pool)
        return answers(descriptors, share_out(descriptors, groups, budget, choose))


def farthest_first(rows: np.ndarray, first: int) -> list[int]:
    """The order of centres of vectors `[n,d]` that begins with `first`; of equals the first comes first."""
    gram = rows @ rows.T
    square = gram.diagonal()
    nearest, order = np.full(len(rows), np.inf), [first]
    for _ in range(len(rows) - 1):
        latest = order[-1]
        np.minimum(nearest, square + square[latest] - 2 * gram[latest], out=nearest)
        nearest[latest] = -1.0
        order.append(int(nearest.argmax()))
    return order
