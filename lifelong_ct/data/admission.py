"""Memory of cases that are being ingested: asked of the ledger before anything is read."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from lifelong_ct.core.errors import DataError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.types import Case
from lifelong_ct.core.units import format_bytes
from lifelong_ct.data import positions
from lifelong_ct.data.grids import case_grid
from lifelong_ct.data.resampling import SLAB, new_shape

OWNER = "ingest"
_WIDEST = 8
"""Bytes of a decoded number, where the header does not tell a smaller one."""
_BLOCKS = 1 << 20
"""Bytes of what a reader holds of a file, whatever its size."""
_SIDES = 16
"""Bytes per voxel while two sides are told apart: their parts are numbered."""
_DRAWN, _DRAWING = 128, 8 << 20
"""Bytes per voxel while a phantom is drawn, and besides."""
_SLAB = 12 * SLAB


class Admission:
    """Lets cases in as long as their memory fits into what the ledger has left, lower numbers first.

    Args:
        ledger: whose `ram` is asked.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._held = ledger, 0
        self._free = threading.Condition()
        self._waiting: list[int] = []

    @contextmanager
    def room(
        self, nbytes: int, order: int, name: str, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Waits until the bytes are there, and holds them for the block.

        Args:
            nbytes: most bytes that the block will hold at once.
            order: who waits with a lower number is let in before.
            name: of the case, for the error.
            stopped: true ends the waiting; the block must look as well.

        Raises:
            LimitExceeded: they would not even fit if nothing else were being ingested.
        """
        with self._free:
            self._waiting.append(order)
            held = 0
            try:
                while not stopped():
                    if order == min(self._waiting) and self._admitted(nbytes, name):
                        held = nbytes
                        break
                    self._free.wait(0.1)
            finally:
                self._waiting.remove(order)
                self._free.notify_all()
        try:
            yield
        finally:
            with self._free:
                self._hold(self._held - held)
                self._free.notify_all()

    def _admitted(self, nbytes: int, name: str) -> bool:
        try:
            self._hold(self._held + nbytes)
        except LimitExceeded as error:
            if self._held:
                return False
            raise LimitExceeded(
                f"case {name} needs {format_bytes(nbytes)} ({nbytes} bytes) of ram to be ingested: {error.what}",
                error.where,
                error.fix,
            ) from error
        return True

    def _hold(self, nbytes: int) -> None:
        if nbytes:
            self._ledger.admit("ram", OWNER, nbytes)
        else:
            self._ledger.release("ram", OWNER)
        self._held = nbytes


def need(layout: object, case: Case, spacing: Sequence[float] | None) -> int:
    """Most bytes that reading, resampling and packing a case hold at once, from headers; 0 where these cannot be
    read: reading will say why.

    What an array of n voxels costs while it is decoded, turned and checked was measured (numpy's allocations) with
    every type of number: `tests/data/test_admission.py` holds it against this.
    """
    try:
        shape, known = case_grid(layout, case)
    except DataError:
        return 0
    old = known or (1.0, 1.0, 1.0)
    channels = max(1, len(case.images), int(case.params.get("channels", 1)))
    voxels = math.prod(shape)
    new = voxels if spacing is None else math.prod(new_shape(shape, old, spacing))
    stored = 2 * channels + 2
    reading = int(voxels * _reading(case, channels)) if case.images else voxels * _DRAWN + _DRAWING
    resampling = 0
    if spacing is not None:
        between = shape[0] * math.prod(new_shape(shape, old, spacing)[1:])
        made = new if channels == 1 else 2 * new  # one by one, then side by side
        resampling = stored * (voxels + made) + 4 * between + min(_SLAB, 12 * (voxels + new))
    packing = (3 * stored - 2) * new + 20 * min(new, positions.SLAB)
    return max(reading, resampling, packing) + _compressed(case) + _BLOCKS


def _reading(case: Case, channels: int) -> float:
    """Bytes per voxel: the scan alone, and the scan with its labels."""
    number = max(_itemsize(path) for path in case.images)
    several = 4 * channels if channels > 1 else 0
    image = several + (number + 2.5 if case.modality == "CT" else 4 * number + 10)
    files = case.files[len(case.images) :]
    label = 2 * max([2, *map(_itemsize, files)]) + (5 if case.masks else 1)
    return max(image, 2 * channels + max(label, _SIDES if case.splits else 0) + 0.5)


def _itemsize(path: Path) -> int:
    """Bytes of a number as the file has it; the widest where its header does not tell."""
    try:
        return int(np.dtype(nib.load(path).get_data_dtype()).itemsize)  # type: ignore[attr-defined]
    except Exception:  # whatever is wrong with it: its reader will tell
        return _WIDEST


def _compressed(case: Case) -> int:
    """A reader may hold the whole file beside what is in it."""
    sizes = (path.stat().st_size for path in case.files if path.is_file())
    return max(sizes, default=0)
