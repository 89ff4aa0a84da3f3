"""A stored volume that is made again from its source where its file is damaged."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xxhash

from lifelong_ct.core.errors import DataError, LifelongCTError
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
        self._again = again
        self._mending, self._mended = threading.Lock(), 0

    def positions(self, group: str) -> npt.NDArray[np.uint16]:
        """See `StoredVolume`.

        Raises:
            DataError: damaged, and its source is gone or has changed.
        """
        return self._mendable(lambda: super(SourcedVolume, self).positions(group))

    def read(
        self,
        start: Corner,
        size: Corner,
        image: npt.NDArray[np.int16] | None = None,
        label: np.ndarray | None = None,
        lut: np.ndarray | None = None,
    ) -> tuple[npt.NDArray[np.int16], np.ndarray]:
        """See `StoredVolume`.

        Raises:
            DataError: damaged, and its source is gone or has changed.
        """
        return self._mendable(lambda: super(SourcedVolume, self).read(start, size, image, label, lut))

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
            digest, closed = self.digest, self.closed
            for tries in range(_TRIES + 1):
                if not is_whole(self.path):
                    self._again()
                self.cache.drop(self.key)
                try:
                    super().__init__(self.key, self.path, self.cache)
                    break
                except (OSError, DataError) as error:  # damaged once more, or gone, since it was looked at
                    if tries == _TRIES:
                        raise error if isinstance(error, DataError) else bricks.damaged(self.path) from error
            self.closed = closed
            assert self.digest == digest, "the key of a volume is a hash of all that its voxels follow from"
            self._mended += 1


def is_whole(path: Path) -> bool:
    """Whether every byte of a volume's file is as it was written."""
    try:
        header, start = bricks.read_header(path)
        index = bricks.Index(header, _read(path, start, header.index_bytes, header.index))
        for number, count in enumerate(header.counts):
            place = start + header.positions_at(number)
            _read(path, place, 6 * count, int(index.positions[number]))
        for offset, one, two, _, checksum in index.rows(range(math.prod(header.grid))):
            _read(path, start + offset, one + two, checksum)
    except (OSError, LifelongCTError):
        return False
    return True


def _read(path: Path, offset: int, nbytes: int, checksum: int) -> memoryview:
    data = bytearray(nbytes)
    bricks.read_into(str(path), [(offset, [memoryview(data)])])
    if xxhash.xxh3_64_intdigest(data) != checksum:
        raise bricks.damaged(path)
    return memoryview(data)
