"""One patch: voxels and codes, written where they are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.sampling.policy import Corner

PAD_HU = -1024
"""Voxels outside a volume: air."""
_SLAB = 8
"""Planes that are coded at a time: what is in between stays in the processor's cache."""
_FEW = 8
"""Up to so many ids are coded one by one; more are looked up."""


class Readable(Protocol):
    """What is needed of a volume."""

    shape: tuple[int, int, int]

    def read(self, start: Corner, size: Corner) -> tuple[npt.NDArray[np.int16], np.ndarray]:
        """A box that lies inside."""
        ...


class Coder:
    """Local label ids of a case → codes of `y`. Most cases move few ids or none, and a look-up per voxel costs
    as much as reading the patch, so ids that stay are copied and the others shifted one by one.

    Args:
        lut: codes `[ids]`.
        dtype: of the codes.
    """

    def __init__(self, lut: np.ndarray, dtype: npt.DTypeLike) -> None:
        self.lut = lut.astype(dtype)
        shifts = self.lut - np.arange(len(lut)).astype(dtype)  # modulo the type's range, as the sums below
        self._moved = [(int(i), shifts[i]) for i in np.flatnonzero(shifts)]

    def __call__(self, label: np.ndarray, out: np.ndarray) -> None:
        """Writes the codes of `label` `[d, h, w]` into `out` `[d, h, w]`.

        Raises:
            IndexError: an id that the table does not have.
        """
        if label.size and int(label.max()) >= len(self.lut):
            raise IndexError(f"label {label.max()} of {len(self.lut)}")
        for first in range(0, len(label), _SLAB):
            slab = slice(first, first + _SLAB)
            self._code(label[slab], out[slab])

    def _code(self, label: np.ndarray, out: np.ndarray) -> None:
        if len(self._moved) > _FEW:
            out[...] = np.take(self.lut, label, mode="clip")
            return
        np.copyto(out, label, casting="unsafe")
        for value, shift in self._moved:
            here = label == value
            if here.any():
                out += here * shift


def read_into(
    volume: Readable, start: Sequence[int], coder: Coder, x: np.ndarray, y: np.ndarray, outside: int
) -> None:
    """Writes a patch: int16 `x` `[C,D,H,W]` and codes `y` `[1,D,H,W]`.

    Args:
        volume: to read.
        start: first voxel, negative where the patch begins before the volume.
        coder: of the volume's labels.
        x, y: written.
        outside: code of voxels outside the volume; they are `PAD_HU` in `x`.

    Raises:
        DataError: the volume cannot be read.
    """
    size = x.shape[1:]
    low = [max(s, 0) for s in start]
    high = [min(s + n, m) for s, n, m in zip(start, size, volume.shape, strict=True)]
    box = [b - a for a, b in zip(low, high, strict=True)]
    image, label = volume.read((low[0], low[1], low[2]), (box[0], box[1], box[2]))
    if tuple(box) != size:
        x.fill(PAD_HU)
        y.fill(outside)
    inside: Any = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    x[(slice(None), *inside)] = image
    coder(label, y[(0, *inside)])
