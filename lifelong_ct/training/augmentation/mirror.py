"""Mirroring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.evaluation.mirroring import LATERAL, swapped
from lifelong_ct.training.augmentation.transform import Drawn, Transform

_WHERE = "trainer.augment.transforms.mirror.axes"


class Mirror(Transform):
    """Each axis with probability ½. Where left and right change places, so do the codes of organs that have a side, and
    those of what was annotated.

    Args:
        axes: voxel axes; 1 is anterior-posterior, 2 superior-inferior. 0, left-right, makes a body whose liver lies on
            the left: only where every organ of a side has its other side in the stream.

    Raises:
        LifelongCTError: no list of different axes.
    """

    def __init__(self, axes: Sequence[int] = (1, 2)) -> None:
        known = isinstance(axes, (list, tuple)) and all(type(axis) is int and 0 <= axis <= 2 for axis in axes)
        if not known or len(set(axes)) < len(axes):
            raise LifelongCTError(f"axes={axes}", _WHERE, "list some of the axes 0, 1 and 2")
        super().__init__(1.0)
        self.axes = tuple(axes)
        self._space: LabelSpace | None = None
        self._table: tuple[tuple[int, int], Tensor] | None = None

    def bind(
        self, space: LabelSpace, spacing: Sequence[float] | None, seen: Iterable[Sequence[str]] = ()
    ) -> None:
        """Raises:
        LifelongCTError: axis 0, and after some round an organ of one side without the other.
        """
        self._space, self._table = space, None
        if LATERAL in self.axes:
            for organs in seen:
                swapped(organs, space.vocabulary, _WHERE)

    def parameters(self, rng: np.random.Generator, shape: Sequence[int]) -> Drawn | None:
        flips = np.isin(range(3), self.axes) & (rng.random(3) < 0.5)
        return {"flips": flips} if flips.any() else None

    def __call__(self, x: Tensor, y: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        for axis in self.axes:
            chosen = drawn["flips"][:, axis]
            if not chosen.any():
                continue
            here = torch.from_numpy(chosen).to(x.device).view(-1, 1, 1, 1, 1)
            turned = y.flip(2 + axis)
            if axis == LATERAL:
                turned = self._swapped(turned)
            x = torch.where(here, x.flip(2 + axis), x)
            y = torch.where(here, turned, y.to(turned.dtype))
        return x, y

    def _swapped(self, y: Tensor) -> Tensor:
        """Codes of the other side; wider where they need it."""
        if self._space is None:
            raise LifelongCTError(
                "nobody told which organs have a side", _WHERE, "call bind(label_space, spacing) first"
            )
        space = self._space
        key = (space.width, len(space.protocols))
        if self._table is None or self._table[0] != key:
            swapped(space.channels, space.vocabulary, _WHERE)
            table = torch.from_numpy(space.mirrored())  # it appends protocols
            self._table = (space.width, len(space.protocols)), table
        wide = torch.from_numpy(np.empty(0, space.dtype)).dtype
        found = self._table[1].to(y.device)[y.long()]
        return found.to(max(y.dtype, wide, key=lambda dtype: dtype.itemsize))
