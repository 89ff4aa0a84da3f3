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
from lifelong_ct.data.grids import case_grid
from lifelong_ct.data.resampling import SLAB, new_shape

OWNER = "ingest"
_WIDEST = 8
"""Bytes of a decoded number, where the header does not tell a smaller one."""
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
            try:
                while not stopped() and not (order == min(self._waiting) and self._admitted(nbytes, name)):
                    self._free.wait(0.1)
                if stopped():
                    nbytes = 0
            finally:
                self._waiting.remove(order)
                self._free.notify_all()
        try:
            yield
        finally:
            with self._free:
                self._hold(self._held - nbytes)
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
    reading = voxels * _reading(case, channels) if case.images else voxels * _DRAWN + _DRAWING
    resampling = 0
    if spacing is not None:
        between = shape[0] * math.prod(new_shape(shape, old, spacing)[1:])
        resampling = stored * (voxels + 2 * new) + 4 * between + min(_SLAB, 12 * (voxels + new))
    return max(reading, resampling, 3 * stored * new) + _compressed(case)


def _reading(case: Case, channels: int) -> int:
    """Bytes per voxel."""
    image = 2 * (channels - 1) + 3 * max(_itemsize(path) for path in case.images) + 8
    label = case.files[len(case.images) :]
    masks = 4 if case.masks else 0
    return max(image, 2 * channels + masks + max(12, 3 * max(map(_itemsize, label), default=0) + 2))


def _itemsize(path: Path) -> int:
    """Bytes of a number as numpy holds it when it is decoded."""
    try:
        image = nib.load(path)
        scaled = (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)  # type: ignore[attr-defined]
        return _WIDEST if scaled else int(np.dtype(image.get_data_dtype()).itemsize)  # type: ignore[attr-defined]
    except Exception:  # whatever is wrong with it: its reader will tell
        return _WIDEST


def _compressed(case: Case) -> int:
    """A reader may hold the whole file beside what is in it."""
    sizes = (path.stat().st_size for path in case.files if path.is_file())
    return max(sizes, default=0)
