"""Patches whose gradients point apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lifelong_ct.core.seeding import generator
from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.arguments import between, whole
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
        threshold: cosine from which on nobody enters a full memory, from -1 to 2; 0 is the paper's, 2 lets everybody compete.
    """

    needs: frozenset[str] = frozenset({"gradient"})

    def __init__(self, subset: int = 10, threshold: float = 0.0) -> None:
        self.subset = whole(subset, "selection.subset", least=1)
        self.threshold = between(threshold, "selection.threshold", -1, 2)

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; nothing that is gone is kept."""
        keep = [False] * len(descriptors)
        order = sorted(
            present(descriptors), key=lambda i: descriptors[i].description.scores.get("offered", 0.0)
        )
        if order:
            rows = directions(descriptors, order, "gradient")
            rng = generator(seed, "gss", descriptors[order[-1]].id)
            sizes = [descriptors[i].nbytes for i in order]
            for n in self._survivors(rows, sizes, budget, rng):
                keep[order[n]] = True
        return keep

    def _survivors(
        self, rows: np.ndarray, sizes: Sequence[int], room: int, rng: np.random.Generator
    ) -> list[int]:
        """Who is in the memory at the end, when patches `[n,d]` come in this order."""
        used = np.cumsum(sizes)
        first = int(np.searchsorted(used, room, side="right"))
        held, score = list(range(first)), np.ones(len(rows))
        score[:first] = self._scores(rows, np.arange(first), np.arange(first), rng)
        room -= int(used[first - 1]) if first else 0
        for new in range(first, len(rows)):
            score[new] = self._scores(rows, np.array([new]), np.array(held), rng)[0]
            if sizes[new] > room:
                if score[new] - 1 >= self.threshold:
                    continue
                beaten = _beaten(score, held, sizes, new, sizes[new] - room, rng)
                room += sum(sizes[i] for i in beaten)
                held = [i for i in held if i not in beaten]
            if sizes[new] <= room:
                held.append(new)
                room -= sizes[new]
        return held

    def _scores(
        self, rows: np.ndarray, who: np.ndarray, held: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """1 + the largest cosine of each with a random subset of those held before it; 1 where nobody was."""
        if not len(held):
            return np.ones(len(who))
        before = np.searchsorted(held, who)[:, None]
        drawn = (rng.random((len(who), self.subset)) * before).astype(int)
        every = np.minimum(np.arange(self.subset), before - 1)
        others = held[np.where(before > self.subset, drawn, every)]
        cosine = np.einsum("nd,nsd->ns", rows[who], rows[others]) / GRID**2
        return np.where(before[:, 0] > 0, 1 + cosine.max(1, initial=-1.0), 1.0)


def _beaten(
    score: np.ndarray,
    held: Sequence[int],
    sizes: Sequence[int],
    new: int,
    lacking: int,
    rng: np.random.Generator,
) -> set[int]:
    """Who gives way to a newcomer that lacks these bytes; nobody, where it loses."""
    chance, beaten = score[list(held)], set[int]()
    while lacking > 0:
        line = chance.cumsum()
        if not len(line) or line[-1] <= 0:
            return set()
        i = held[int(np.searchsorted(line, rng.random() * line[-1], side="right"))]
        if rng.random() * (score[i] + score[new]) >= score[i]:
            return set()
        beaten.add(i)
        chance[held.index(i)] = 0.0
        lacking -= sizes[i]
    return beaten
