"""Batches in memory that processes share: a fixed number of slots, made once."""

from __future__ import annotations

import math
import mmap
import os
import tempfile

import numpy as np

from lifelong_ct.data.loading.tasks import Buffers

_ALIGN = 64


class Ring:
    """Slots for batches. The memory has no name: it is gone with the last process that has it open, however
    that ends.

    Args:
        handle: of the memory; see `make`.
        slots: how many batches.
        shape: `(B, C, D, H, W)`.
        code_type: numpy name of the type of `y`.
    """

    def __init__(
        self, handle: int, slots: int, shape: tuple[int, int, int, int, int], code_type: str
    ) -> None:
        self.handle, self.slots, self.shape, self.code_type = handle, slots, shape, np.dtype(code_type)
        self._codes = (shape[0], 1, *shape[2:])
        self._x_bytes = _up(2 * math.prod(shape))
        self._slot_bytes = self._x_bytes + _up(self.code_type.itemsize * math.prod(self._codes))
        if os.fstat(handle).st_size == 0:
            os.ftruncate(handle, slots * self._slot_bytes)
        self._map = mmap.mmap(handle, slots * self._slot_bytes)

    @classmethod
    def make(cls, slots: int, shape: tuple[int, int, int, int, int], code_type: str) -> Ring:
        """New memory: a memfd on Linux, elsewhere an unlinked file."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("patches"), slots, shape, code_type)
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()), slots, shape, code_type)

    def slot(self, number: int, rows: int) -> Buffers:
        """The first rows of a slot."""
        start = number * self._slot_bytes
        x = np.ndarray(self.shape, np.int16, self._map, start)
        y = np.ndarray(self._codes, self.code_type, self._map, start + self._x_bytes)
        return Buffers(x[:rows], y[:rows], number)

    def close(self) -> None:
        """Gives the memory up, as soon as the last view of it is gone: the map is not closed, since arrays do not
        keep it open and a view would then point nowhere."""
        os.close(self.handle)
        del self._map


def _up(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN
