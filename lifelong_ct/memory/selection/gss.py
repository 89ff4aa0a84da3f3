"""Patches whose gradients point apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lifelong_ct.core.seeding import generator
from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.shares import present
from lifelong_ct.memory.selection.vectors import GRID, directions


class GSS:
    """Keeps patches whose gradients resemble those of others least.

    GSS-Greedy (Aljundi et al., "Gradient based sample selection for online continual learning", NeurIPS 2019, arXiv
    1903.08671, algorithm 2). A patch's score is 1 + the largest cosine of its gradient with those of a random
    `subset` of the memory. Once the memory is full, one with a cosine below `threshold` may enter: i is drawn with
    P(i) = C_i / Σ C, and gives way to it with the probability C_i / (C_i + c). A patch that needs the room of several
    must win against each of them, and does not enter where it loses once: sizes are neither preferred nor ignored.

    `decide` remembers nothing, so it lets those that are kept come once more in the order of `offered`, and then the
    new ones: scores are those among the survivors. Gradients are those of the offer; the paper takes them anew.

    Args:
        subset: gradients that a newcomer is compared with; n of the paper.
        threshold: cosine from which on nobody enters a full memory, from -1 to above 1; 0 is the paper's.
    """

    needs: frozenset[str] = frozenset({"gradient"})

    def __init__(self, subset: int = 10, threshold: float = 0.0) -> None:
        self.subset = whole(subset, "selection.subset", least=1)
        self.threshold = threshold

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; nothing that is gone is kept."""
        keep = [False] * len(descriptors)
        order = sorted(present(descriptors), key=lambda i: descriptors[i].description.scores.get("offered", 0.0))
        if order:
            rows = directions(descriptors, order, "gradient")
            rng = generator(seed, "gss", descriptors[order[-1]].id)
            sizes = [descriptors[i].nbytes for i in order]
            for n in self._survivors(rows, sizes, budget, rng):
                keep[order[n]] = True
        return keep
