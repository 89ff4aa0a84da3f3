"""Class-incremental, disjoint: each case in one step, with nothing but the new organs annotated."""

from __future__ import annotations

from collections.abc import Sequence

from lifelong_ct.core.types import Case
from lifelong_ct.streams.classes import ClassIncremental, each_once, only


class ClassDisjoint(ClassIncremental):
    """Every step has scans of its own; old organs are in them, and are not annotated: the background shifts.

    "Disjoint" of Cermelli et al., "Modeling the background for incremental learning in semantic segmentation", CVPR 2020
    (arXiv 2002.00718), after Michieli & Zanuttigh (arXiv 1907.13372): a unique set of images per step, labels of the new
    classes only. There no image shows a class of the future. A scan of the abdomen shows all organs at once, so here
    those of the future are in the scans and not annotated, as those of the past.
    """

    def deal(self, cases: Sequence[Case], steps: Sequence[frozenset[str]]) -> list[list[Case]]:
        """See `ClassIncremental`."""
        dealt = each_once(cases, steps, self.seed)
        return [only(own, organs) for own, organs in zip(dealt, steps, strict=True)]
