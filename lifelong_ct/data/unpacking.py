"""From compressed bricks to the voxels of a patch."""

from __future__ import annotations

import math
import threading

import blosc2
import numpy as np

from lifelong_ct.data.brick_cache import Entry
from lifelong_ct.data.bricks import Corner, Header

Box = tuple[tuple[slice, slice, slice], tuple[slice, slice, slice], Corner]
"""Of a brick: where it goes in the patch, what of it, its voxels per axis."""
_IDENTITY = bytes(range(256))


class Unpack:
    """Puts bricks into a patch; their voxels pass through memory that a thread uses again and again.

    Args:
        header: of the volume.
        image: int16 `[C, d, h, w]`, to be filled.
        label: `[d, h, w]`, to be filled.
        lut: what stands for each local label id in `label`; None for the ids themselves.
    """

    def __init__(self, header: Header, image: np.ndarray, label: np.ndarray, lut: np.ndarray | None) -> None:
        self._image, self._label = image, label
        if lut is not None and lut.dtype == np.uint8 and lut.tobytes() == _IDENTITY[: lut.size]:
            lut = None
        self._lut, self._table = lut, None
        if lut is not None and lut.dtype == np.uint8 and header.label_dtype == "uint8":
            self._table = lut.tobytes()[:256].ljust(256, b"\0")
        self._background = 0 if lut is None else int(lut[0])
        label[...] = self._background  # most bricks have no organ: theirs is done
        self._channels, self._brick = header.shape[0], header.brick
        n = math.prod(header.brick)
        self._dtype = np.dtype(header.label_dtype)
        self._voxels = _scratch("voxels", 2 * self._channels * n).view(np.int16)
        self._ids = _scratch("ids", self._dtype.itemsize * n).view(self._dtype)
        self._whole = self._views(header.brick)

    def __call__(self, entry: Entry, to: tuple[slice, ...], of: tuple[slice, ...], shape: Corner) -> None:
        """Unpacks one brick; see `Box`."""
        voxels, ids = self._whole if shape == self._brick else self._views(shape)
        blosc2.decompress2(entry.image, voxels, nthreads=1)
        self._image[(slice(None), *to)] = voxels[(slice(None), *of)]
        if isinstance(entry.label, int):
            value = entry.label if self._lut is None else int(self._lut[entry.label])
            if value != self._background:
                self._label[to] = value
            return
        blosc2.decompress2(entry.label, ids, nthreads=1)
        wanted = ids[of]
        if self._table is not None:  # three times as fast as indexing
            coded = wanted.tobytes().translate(self._table)
            wanted = np.frombuffer(coded, np.uint8).reshape(wanted.shape)
        elif self._lut is not None:
            wanted = self._lut.take(wanted)
        self._label[to] = wanted

    def _views(self, shape: Corner) -> tuple[np.ndarray, np.ndarray]:
        n = math.prod(shape)
        return self._voxels[: self._channels * n].reshape(self._channels, *shape), self._ids[:n].reshape(
            shape
        )


_own = threading.local()


def _scratch(name: str, nbytes: int) -> np.ndarray:
    """Memory of this thread, at least so many bytes long."""
    found = getattr(_own, name, None)
    if found is None or len(found) < nbytes:
        found = np.empty(nbytes, np.uint8)
        setattr(_own, name, found)
    return found[:nbytes]
