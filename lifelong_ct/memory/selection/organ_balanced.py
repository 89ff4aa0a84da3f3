"""As many patches of one organ as of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.shares import lot, present

_NONE = frozenset((None,))
"""What a patch without an organ shows: background only, a class of its own."""


class OrganBalanced:
    """Keeps as many patches of one organ as of another, as far as organs come alone.

    The greedy balancing sampler (Prabhu et al., "GDumb", ECCV 2020, algorithm 1; so too Chrysakis & Moens, ICML 2020):
    a random patch of the class with the most patches leaves. A patch shows several organs; the most frequent of
    classes is here the patch whose *rarest* organ has the most patches, so that no patch leaves for its liver that
    also has one of few pancreases. With one organ per patch this is the paper's rule. Who leaves among equals is drawn
    by content: of each class the smallest random priorities stay, a sample in which late and early have equal right.
    Sizes do not count in who leaves; patches leave until the rest fits.
    """

    needs: frozenset[str] = frozenset({"organs"})

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; nothing that is gone is kept."""
        kept = set(present(descriptors))
        left = budget - sum(descriptors[i].nbytes for i in kept)
        if left < 0:
            shown = {i: _organs(descriptors[i]) for i in kept}
            lots = {i: (lot(seed, "organ_balanced", descriptors[i]), descriptors[i].id) for i in kept}
            patches = Counter(organ for organs in shown.values() for organ in organs)
        while left < 0:
            out = max(kept, key=lambda i: (min(patches[o] for o in shown[i]), lots[i]))
            kept.remove(out)
            patches.subtract(shown[out])
            left += descriptors[out].nbytes
        return [i in kept for i in range(len(descriptors))]


def _organs(descriptor: Descriptor) -> frozenset[str | None]:
    return frozenset(o for o, voxels in descriptor.description.organs.items() if voxels > 0) or _NONE
