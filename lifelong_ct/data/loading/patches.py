"""One patch: voxels and codes, written where they are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.sampling.policy import Corner

PAD_HU = -1024
"""Voxels outside a volume: air."""


class Readable(Protocol):
    """What is needed of a volume."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels `(D, H, W)`."""

    def read(
        self,
        start: Corner,
        size: Corner,
        image: npt.NDArray[np.int16] | None = None,
        label: np.ndarray | None = None,
        lut: np.ndarray | None = None,
    ) -> tuple[npt.NDArray[np.int16], np.ndarray]:
        """A box that lies inside, written into `image` and, coded by `lut`, into `label`."""
        ...


def read_into(
    volume: Readable, start: Sequence[int], lut: np.ndarray, x: np.ndarray, y: np.ndarray, outside: int
) -> None:
    """Writes a patch: int16 `x` `[C,D,H,W]` and codes `y` `[1,D,H,W]`.

    Args:
        volume: to read.
        start: first voxel, negative where the patch begins before the volume.
        lut: codes of the volume's labels, of the type of `y`.
        x, y: written.
        outside: code of voxels outside the volume; they are `PAD_HU` in `x`.

    Raises:
        DataError: the volume cannot be read.
        IndexError: a label may come that `lut` does not have.
    """
    size = x.shape[1:]
    low = [max(s, 0) for s in start]
    high = [min(s + n, m) for s, n, m in zip(start, size, volume.shape, strict=True)]
    box = [b - a for a, b in zip(low, high, strict=True)]
    if tuple(box) != size:
        x.fill(PAD_HU)
        y.fill(outside)
    inside: Any = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    first, extent = (low[0], low[1], low[2]), (box[0], box[1], box[2])
    volume.read(first, extent, x[(slice(None), *inside)], y[(0, *inside)], lut)
