"""Mirrored copies of a window at test time: their logits, mirrored back, are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from torch import Tensor

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.vocabulary import Vocabulary, default_vocabulary

LATERAL = 0
"""The voxel axis that runs from left to right, in canonical order."""


class Mirroring:
    """Averages the logits of a window and of its mirrored copies over every combination of axes, as nnU-Net does
    (Isensee et al., Nature Methods 2021, doi:10.1038/s41592-020-01008-z); where left and right change places, so do the
    channels of organs that have a side.

    Args:
        axes: voxel axes to mirror: 0 left-right, 1 anterior-posterior, 2 superior-inferior; none is no mirroring.
        organs: of the channels behind the background, in order; needed for axis 0.
        vocabulary: which organ is the other side of which.

    Raises:
        LifelongCTError: an axis that is none; or axis 0, and an organ of one side without the other.
    """

    def __init__(
        self, axes: Sequence[int], organs: Sequence[str] = (), vocabulary: Vocabulary | None = None
    ) -> None:
        checked_axes(axes)
        self.axes = sorted(axes)
        self.swap = swapped(organs, vocabulary) if LATERAL in axes else []

    def __call__(self, model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`[B,C,D,H,W]` → logits `[B,K,D,H,W]`, a mean over `2 ** len(axes)` passes."""
        total = model(x)
        for count in range(1, len(self.axes) + 1):
            for chosen in combinations(self.axes, count):
                dims = [2 + axis for axis in chosen]
                logits = model(x.flip(dims)).flip(dims)
                total = total + (logits[:, self.swap] if LATERAL in chosen else logits)
        return total / 2 ** len(self.axes)


def checked_axes(axes: Sequence[int]) -> None:
    """Refuses what is no list of different voxel axes.

    Raises:
        LifelongCTError: it is none.
    """
    known = isinstance(axes, (list, tuple)) and all(type(axis) is int and 0 <= axis <= 2 for axis in axes)
    if not known or len(set(axes)) < len(axes):
        shown = list(axes) if isinstance(axes, (list, tuple)) else axes
        raise LifelongCTError(f"mirror={shown}", "evaluation.mirror", "list some of the axes 0, 1 and 2")


def swapped(
    organs: Sequence[str], vocabulary: Vocabulary | None = None, where: str = "evaluation.mirror"
) -> list[int]:
    """The channel that each channel becomes in the mirror.

    Args:
        organs: of the channels behind the background.
        vocabulary: the library's own where None.
        where: key that asks for the mirror, for the error.

    Raises:
        LifelongCTError: an organ of one side whose other side has no channel, or that the body does not have twice
            (a lung's middle lobe, an atrium).
    """
    vocabulary = vocabulary or default_vocabulary()
    channels = [0]
    for own, organ in enumerate(organs, start=1):
        other = vocabulary.mirror.get(organ)
        if other is None and not {"left", "right"} & set(organ.split("_")):
            channels.append(own)
        elif other is not None and other in organs:
            channels.append(1 + list(organs).index(other))
        else:
            why = f"its other side, {other}, has no channel" if other else "the body has no other one"
            raise LifelongCTError(
                f"{organ} cannot be mirrored from left to right: {why}",
                where,
                "leave axis 0 out",
            )
    return channels
