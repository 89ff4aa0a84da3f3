"""Patches whose mean stays the mean of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.memory.selection.shares import answers, by_hospital, fitting, pools, share_out
from lifelong_ct.memory.selection.vectors import GRID, directions


class Herding:
    """Of every hospital the patches whose mean feature comes nearest to that of all its patches.

    Herding (Welling, ICML 2009) as in iCaRL (Rebuffi et al., CVPR 2017, arXiv 1611.07725, algorithm 4): the k-th
    exemplar is argmin_x |μ - (φ(x) + Σ_{j<k} φ(p_j)) / k| with features φ of length 1 and their mean μ; fewer
    exemplars are the first of that order (algorithm 5). A hospital is the class: each has the same bytes. iCaRL has the
    whole class at hand; here μ is the mean of all that the hospital has offered, as told with its latest patch, since that
    of the survivors would drift. The first of the order that does not fit ends it, whatever its size, so that small
    patches are not preferred.

    Args:
        pool: patches of a hospital that are ordered together, about; more are cut into such pools at random.
    """

    needs: frozenset[str] = frozenset({"embedding", "mean"})

    def __init__(self, pool: int = 256) -> None:
        self.pool = whole(pool, "selection.pool", least=2)

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; nothing that is gone is kept."""

        def order(members: list[int], room: int) -> list[int]:
            rows = directions(descriptors, members, "embedding")
            ordered = herded(rows, _mean(descriptors, members, rows))
            return fitting(descriptors, (members[n] for n in ordered), room)

        def choose(members: list[int], room: int) -> list[int]:
            return share_out(descriptors, pools(descriptors, members, seed, self.pool), room, order)

        return answers(descriptors, share_out(descriptors, by_hospital(descriptors), budget, choose))


def herded(rows: np.ndarray, mean: np.ndarray) -> list[int]:
    """The order of herding of vectors `[n,d]` towards a mean `[d]`; of equals the first comes first.

    k² |μ - (φ + S) / k|² = |φ|² + 2 S·φ - 2 k μ·φ + what all candidates share.
    """
    gram, pull = rows @ rows.T, 2 * rows @ mean
    cost, order = gram.diagonal() - pull, []
    for _ in range(len(rows)):
        best = int(cost.argmin())
        order.append(best)
        cost += 2 * gram[best] - pull
        cost[best] = np.inf
    return order


def _mean(descriptors: Sequence[Descriptor], members: Sequence[int], rows: np.ndarray) -> np.ndarray:
    """What the latest of the members says; where none says anything, the mean of the members. Whole numbers `[d]`."""
    told = [
        descriptors[i]
        for i in members
        if len(descriptors[i].description.vectors.get("mean", ())) == rows.shape[1]
    ]
    if not told:
        return np.rint(rows.mean(0))
    latest = max(told, key=lambda d: (d.description.scores.get("offered", 0.0), d.id))
    return np.rint(np.nan_to_num(latest.description.vectors["mean"]) * GRID)
