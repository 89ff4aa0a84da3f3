"""What resembles another leaves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.memory.selection.shares import answers, lot, pools, present, share_out
from lifelong_ct.memory.selection.vectors import GRID, directions


class Uniqueness:
    """One of the two patches that resemble each other most leaves, until the rest fits.

    The dynamic memory of Chou et al., "Embracing Massive Medical Data", MICCAI 2024 (arXiv 2407.04687), as in the
    authors' code: similarity is the cosine of two patches' features, and the patch with the most similar neighbour
    leaves, one after the other. Of the nearest pair their code drops the first in the list, here it is drawn by
    content. Sizes do not count in who leaves. The features are those of the last description: with `OnlineMemory` they are
    renewed in each use, as theirs are; with `Replay` they stay those of the offer.

    Args:
        pool: patches that are compared with each other, about; a larger memory is cut into such pools at random.
    """

    needs: frozenset[str] = frozenset({"embedding"})

    def __init__(self, pool: int = 256) -> None:
        self.pool = whole(pool, "selection.pool", least=2)

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; nothing that is gone is kept."""

        def choose(members: list[int], room: int) -> list[int]:
            left = room - sum(descriptors[i].nbytes for i in members)
            alike = _similarities(descriptors, members)
            lots = np.array([lot(seed, "uniqueness", descriptors[i]) for i in members])
            kept = dict(enumerate(members))
            while left < 0:
                near = alike.max(1)
                nearest = np.flatnonzero(near == near.max())
                out = int(nearest[lots[nearest].argmax()])
                alike[out] = alike[:, out] = -np.inf
                left += descriptors[kept.pop(out)].nbytes
            return list(kept.values())

        groups = pools(descriptors, present(descriptors), seed, self.pool)
        return answers(descriptors, share_out(descriptors, groups, budget, choose))


def _similarities(descriptors: Sequence[Descriptor], members: Sequence[int]) -> np.ndarray:
    """Cosines `[n,n]` times GRID²; below every cosine on the diagonal."""
    rows = directions(descriptors, members, "embedding")
    alike = rows @ rows.T
    np.fill_diagonal(alike, -2 * GRID**2)
    return alike
