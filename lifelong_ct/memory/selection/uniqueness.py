"""What resembles another leaves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.shares import Part, decide_parts, lot, pools, present
from lifelong_ct.memory.selection.vectors import directions


class Uniqueness:
    """One of the two patches that resemble each other most leaves, until the rest fits.

    The dynamic memory of Chou et al., "Embracing Massive Medical Data", MICCAI 2024 (arXiv 2407.04687), as in the
    authors' code: similarity is the cosine of two patches' features, and the patch with the most similar neighbour
    leaves, one after the other. Of the nearest pair their code drops the first in the list, here it is drawn by
    content. Sizes do not count in who leaves. The features are those of the offer; theirs are renewed in each use.

    Args:
        pool: patches that are compared with each other, about; a larger memory is cut into such pools at random.
    """

    needs: frozenset[str] = frozenset({"embedding"})

    def __init__(self, pool: int = 256) -> None:
        self.pool = whole(pool, "selection.pool", least=2)

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; nothing that is gone is kept."""

        def choose(part: Part) -> list[int]:
            out: list[int] = []
            left = part.room - sum(descriptors[i].nbytes for i in part.members)
            alike = _similarities(descriptors, part.members)
            lots = np.array([lot(seed, "uniqueness", descriptors[i]) for i in part.members])
            while left < 0:
                near = alike.max(1)
                near[out] = -np.inf
                pair = np.flatnonzero(near == near.max())
                gone = int(pair[lots[pair].argmax()])
                alike[gone], alike[:, gone] = -np.inf, -np.inf
                out.append(gone)
                left += descriptors[part.members[gone]].nbytes
            return [i for n, i in enumerate(part.members) if n not in set(out)]

        whole_ = Part(present(descriptors), budget)
        return decide_parts(descriptors, pools(descriptors, whole_, seed, self.pool), choose)


def _similarities(descriptors: Sequence[Descriptor], members: Sequence[int]) -> np.ndarray:
    """Cosines `[n,n]`, nothing on the diagonal."""
    rows = directions(descriptors, members, "embedding")
    alike = rows @ rows.T
    np.fill_diagonal(alike, -np.inf)
    return alike
