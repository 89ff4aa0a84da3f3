"""A stored volume that is made again from its source where its file is damaged."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xxhash

from lifelong_ct.core.errors import DataError
from lifelong_ct.data import bricks
from lifelong_ct.data.bricks import Corner
from lifelong_ct.data.volume import BrickCache, StoredVolume

MENDABLE = ("store_damaged", "gone")
"""Codes of errors after which a volume can be made again."""
_TRIES = 3
T = TypeVar("T")


class SourcedVolume(StoredVolume):
    """Reads like any stored volume; a patch that meets a damaged file waits until the file is made again, and
    has the same voxels. May be read from several threads.

    Args:
        key: name in the store.
        path: of the file.
        cache: of bricks.
        again: writes the file anew from the source.

    Raises:
        DataError: the file is gone or damaged.
    """

    def __init__(self, key: str, path: Path, cache: BrickCache, again: Callable[[], None]) -> None:
        super().__init__(key, path, cache)
        self._file, self._bricks, self._again = path, cache, again
        self._mending, self._mended = threading.Lock(), 0

    def positions(self, organ: str) -> npt.NDArray[np.uint16]:
        """See `StoredVolume`.

        Raises:
            DataError: damaged, and its source is gone or has changed.
        """
        return self._mendable(lambda: super(SourcedVolume, self).positions(organ))

    def read(self, start: Corner, size: Corner) -> tuple[npt.NDArray[np.int16], np.ndarray]:
        """See `StoredVolume`.

        Raises:
            DataError: damaged, and its source is gone or has changed.
        """
        return self._mendable(lambda: super(SourcedVolume, self).read(start, size))

    def mend(self) -> None:
        """Opens the file anew, and makes it again if it is not whole to its last byte. For those who read the file
        themselves, in another process, and met an error of `MENDABLE`.

        Raises:
            DataError: its source is gone or has changed.
        """
        self._mend(self._mended)

    def _mendable(self, read: Callable[[], T]) -> T:
        for tries in range(_TRIES + 1):
            seen = self._mended
            try:
                return read()
            except DataError as error:
                if error.code not in MENDABLE or tries == _TRIES:
                    raise
            self._mend(seen)
        raise AssertionError

    def _mend(self, seen: int) -> None:
        with self._mending:
            if self._mended != seen:  # another thread did
                return
            if not is_whole(self._file):
                self._again()
            digest = self.digest
            self._bricks.drop(self.key)
            super().__init__(self.key, self._file, self._bricks)
            assert self.digest == digest, "the key of a volume is a hash of all that its voxels follow from"
            self._mended += 1


def is_whole(path: Path) -> bool:
    """Whether every byte of a volume's file is as it was written."""
    try:
        header, start = bricks.read_header(path)
        parts = [(offset, one + two, checksum) for offset, one, two, checksum in header.bricks]
        parts += [(offset, 6 * count, checksum) for offset, count, checksum in header.positions.values()]
        for offset, length, checksum in parts:
            data = bricks.read_range(path, start + offset, length)
            if xxhash.xxh3_64_hexdigest(data) != checksum:
                return False
    except (OSError, DataError):
        return False
    return True
