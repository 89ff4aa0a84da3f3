"""Patches whose mean stays the mean of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.memory.selection.shares import answers, by_hospital, fitting, pools, share_out
from lifelong_ct.memory.selection.vectors import directions


class Herding:
    """Of every hospital the patches whose mean feature comes nearest to that of all its patches.

    Herding (Welling, ICML 2009) as in iCaRL (Rebuffi et al., CVPR 2017, arXiv 1611.07725, algorithm 4): the k-th
    exemplar is argmin_x |μ - (φ(x) + Σ_{j<k} φ(p_j)) / k| with features φ of length 1 and their mean μ; fewer
    exemplars are the first of that order (algorithm 5). A hospital is the class: each has the same bytes. μ is that of
    the patches that are there: those kept and those just offered; iCaRL has the whole class at hand. The first of
    the order that does not fit ends it, whatever its size, so that small patches are not preferred.

    Args:
        pool: patches of a hospital that are ordered together, about; more are cut into such pools at random.
    """

    needs: frozenset[str] = frozenset({"embedding"})

    def __init__(self, pool: int = 256) -> None:
        self.pool = whole(pool, "selection.pool", least=2)

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; nothing that is gone is kept."""

        def order(members: list[int], room: int) -> list[int]:
            ordered = herded(directions(descriptors, members, "embedding"))
            return fitting(descriptors, (members[n] for n in ordered), room)

        def choose(members: list[int], room: int) -> list[int]:
            return share_out(descriptors, pools(descriptors, members, seed, self.pool), room, order)

        return answers(descriptors, share_out(descriptors, by_hospital(descriptors), budget, choose))


def herded(rows: np.ndarray) -> list[int]:
    """The order of herding of vectors `[n,d]`; of equals the first comes first.

    |μ - (φ + S) / k|² k² = |φ|² + 2 S·φ - 2 k μ·φ + what all candidates share, here times n, with n μ = T.
    """
    gram = rows @ rows.T
    n, total = len(rows), gram.sum(0)
    cost, order = n * gram.diagonal() - 2 * total, []
    for _ in range(n):
        best = int(cost.argmin())
        order.append(best)
        cost += 2 * n * gram[best] - 2 * total
        cost[best] = np.inf
    return order
