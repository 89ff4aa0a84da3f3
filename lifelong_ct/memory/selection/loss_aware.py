"""The more loss, the likelier it stays."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.arguments import between
from lifelong_ct.memory.selection.shares import lot


class LossAware:
    """A random sample in which patches with a high loss are more frequent.

    Loss-aware reservoir sampling (Buzzega et al., "Rethinking Experience Replay: a Bag of Tricks for Continual
    Learning", ICPR 2020, arXiv 2010.05595): the smaller its loss, the likelier an exemplar is replaced. Here in the
    form that needs no count of what came before: weighted reservoir sampling (Efraimidis & Spirakis, Information
    Processing Letters 2006), whose priority -ln(u)/loss with a random u of the content is smaller for a larger loss; the
    smallest stay, as if all that was ever offered had been drawn without replacement in proportion to loss^`power`. The
    paper refreshes the loss when an exemplar is replayed; here it is that of the offer, so that the patches of an
    untrained model count more. As in `Reservoir`, what does not fit ends the search, so that small patches are not
    preferred.

    Args:
        power: 0 is `Reservoir`, 1 in proportion to the loss, more is greedier.
    """

    needs: frozenset[str] = frozenset({"loss"})

    def __init__(self, power: float = 1.0) -> None:
        self.power = between(power, "selection.power", 0)

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; of the gone ones at most that which ends the search."""
        keep, left = [False] * len(descriptors), budget
        keys = [(self._priority(d, seed), d.id, d.gone) for d in descriptors]
        known = (i for i, d in enumerate(descriptors) if not d.gone or "loss" in d.description.scores)
        for i in sorted(known, key=keys.__getitem__):
            left -= descriptors[i].nbytes
            if descriptors[i].gone or left < 0:
                keep[i] = descriptors[i].gone
                break
            keep[i] = True
        return keep

    def turns_away(self, newcomer: Descriptor, gone: Sequence[Descriptor], seed: int) -> bool:
        """Whether the search ends before it."""
        known = (d for d in gone if "loss" in d.description.scores)
        return any(self._priority(d, seed) < self._priority(newcomer, seed) for d in known)

    def _priority(self, descriptor: Descriptor, seed: int) -> float:
        loss = max(descriptor.description.scores.get("loss", 0.0), 1e-6)
        return -math.log(lot(seed, "loss_aware", descriptor)) / loss**self.power
