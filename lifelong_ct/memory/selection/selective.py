"""The most unsure stay, and of the others what resembles another leaves."""

from __future__ import annotations

from collections.abc import Sequence

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.arguments import between
from lifelong_ct.memory.selection.shares import answers, fitting, lot, present
from lifelong_ct.memory.selection.uniqueness import Uniqueness


class Selective:
    """Holds a share of the patches for their uncertainty, and thins the others out by their likeness.

    The selective memory of Chou et al., "Embracing Massive Medical Data", MICCAI 2024 (arXiv 2407.04687), as in the
    authors' code: the ⌊share · N⌋ patches with the highest entropy of the prediction do not leave, be they alike or
    not; of the rest it is the dynamic memory, see `Uniqueness`. Their code takes the binary cross-entropy with the labels
    for the entropy, here it is the prediction's own (`Describer`). Where the unsure ones alone pass the budget, the
    surest of them leave.

    Args:
        unsure: share that stays for its uncertainty.
        pool: see `Uniqueness`.
    """

    needs: frozenset[str] = frozenset({"embedding", "uncertainty"})

    def __init__(self, unsure: float = 0.25, pool: int = 256) -> None:
        self.unsure = between(unsure, "selection.unsure", 0.0, 1.0)
        self.unique = Uniqueness(pool)

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; nothing that is gone is kept."""
        there = present(descriptors)
        if sum(descriptors[i].nbytes for i in there) > budget:
            there = self._chosen(descriptors, there, seed, budget)
        return answers(descriptors, there)

    def _chosen(
        self, descriptors: Sequence[Descriptor], there: Sequence[int], seed: int, budget: int
    ) -> list[int]:
        def order(i: int) -> tuple[float, float]:
            said = descriptors[i].description.scores
            return -said.get("uncertainty", 0.0), lot(seed, "selective", descriptors[i])

        line = sorted(there, key=order)
        count = int(self.unsure * len(line))
        unsure = fitting(descriptors, line[:count], budget)
        rest, room = line[count:], budget - sum(descriptors[i].nbytes for i in unsure)
        stays = self.unique.decide([descriptors[i] for i in rest], seed, room)
        return [*unsure, *(i for i, kept in zip(rest, stays, strict=True) if kept)]
