"""Class-incremental, overlapped: all cases that show a new organ in every step, with nothing but it annotated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lifelong_ct.core.types import Case
from lifelong_ct.streams.classes import ClassIncremental, only


class ClassOverlap(ClassIncremental):
    """The same scans come again in every step that has an organ in them, each time with other organs annotated.

    "Overlapped" of Cermelli et al., CVPR 2020 (arXiv 2002.00718): at each step all images with at least one pixel of a
    new class, labels of the new classes only; classes of the past and of the future are in the images. Cases that
    annotate an organ and have no voxel of it are left out once their labels are read. A case is stored once per step,
    with the labels of that step.
    """

    def deal(self, cases: Sequence[Case], steps: Sequence[frozenset[str]]) -> list[list[Case]]:
        """See `ClassIncremental`."""
        return [only(cases, organs) for organs in steps]

    def shown(self, organs: Iterable[str]) -> tuple[str, ...]:
        """See `ClassIncremental`."""
        return tuple(organ for organ in self.label_space.organs if organ in set(organs))
