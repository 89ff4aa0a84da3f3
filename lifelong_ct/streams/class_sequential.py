"""Class-incremental, sequential: each case in one step, with the new organs and those of earlier steps annotated."""

from __future__ import annotations

from collections.abc import Sequence

from lifelong_ct.core.types import Case
from lifelong_ct.streams.classes import ClassIncremental, each_once, only


class ClassSequential(ClassIncremental):
    """Every step has scans of its own, and its readers annotate what is new and what was there before.

    "Sequential" of Michieli & Zanuttigh, "Incremental learning techniques for semantic segmentation", ICCVW 2019 (arXiv
    1907.13372) and "Knowledge distillation for incremental learning in semantic segmentation", CVIU 2021 (arXiv
    1911.03462): at each step a unique set of images, with labels of the old and of the new classes. There no image shows
    a class of the future. A scan of the abdomen shows all organs at once, so here the organs of the future are in the
    scans and not annotated: unknown, not background.
    """

    def deal(self, cases: Sequence[Case], steps: Sequence[frozenset[str]]) -> list[list[Case]]:
        """See `ClassIncremental`."""
        sofar = [frozenset().union(*steps[: i + 1]) for i in range(len(steps))]
        dealt = each_once(cases, steps, self.seed)
        return [only(own, organs) for own, organs in zip(dealt, sofar, strict=True)]
