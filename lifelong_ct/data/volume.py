"""A stored volume, read patch by patch through a cache of compressed bricks that is bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import bricks
from lifelong_ct.data.bricks import Corner


class BrickCache:
    """Compressed bricks, the least recently used leave first.

    Args:
        capacity: bytes, reserved in the ledger at once.
        ledger: asked at construction.

    Raises:
        LimitExceeded: the capacity passes `memory.ram`.
    """

    def __init__(self, capacity: int, ledger: Ledger) -> None:
        self.capacity, self._ledger = capacity, ledger
        self._bricks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0
        ledger.admit("ram", "brick cache", capacity)

    def get(self, key: tuple[str, int]) -> bytes | None:
        """The brick, if it is here."""
        with self._lock:
            if key in self._bricks:
                self._bricks.move_to_end(key)
            return self._bricks.get(key)

    def put(self, key: tuple[str, int], data: bytes) -> None:
        """Keeps a brick, if it is smaller than the whole cache."""
        with self._lock:
            if key in self._bricks or len(data) > self.capacity:
                return
            self._bricks[key] = data
            self.nbytes += len(data)
            while self.nbytes > self.capacity:
                _, old = self._bricks.popitem(last=False)
                self.nbytes -= len(old)
            self._ledger.use("ram", "brick cache", self.nbytes)

    def drop(self, volume: str) -> None:
        """Forgets the bricks of a volume."""
        with self._lock:
            for key in [key for key in self._bricks if key[0] == volume]:
                self.nbytes -= len(self._bricks.pop(key))
            self._ledger.use("ram", "brick cache", self.nbytes)


class StoredVolume:
    """A volume that is opened; what is held of it is its header and positions as they are asked for.

    Attributes:
        key: name in the store.
        digest: of its content.
        shape: voxels `(D, H, W)`.
        organs, overlaps, scales: see `RawCase`.
        affine: float64 `[4, 4]`.
    """

    def __init__(self, key: str, path: Path, cache: BrickCache) -> None:
        self.key, self._path, self._cache = key, path, cache
        self._header, self._start = bricks.read_header(path)
        self._positions: dict[str, npt.NDArray[np.uint16]] = {}
        self.digest, self.organs = self._header.digest, self._header.organs
        self.overlaps, self.scales = self._header.overlaps, self._header.scales
        _, d, h, w = self._header.shape
        self.shape = (d, h, w)
        self.affine = np.array(self._header.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm per axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def positions(self, organ: str) -> npt.NDArray[np.uint16]:
        """Voxels of an organ `[n, 3]`, at most `bricks.POSITIONS`."""
        if organ not in self._positions:
            offset, count, checksum = self._header.positions[organ]
            data = self._checked(offset, 6 * count, checksum)
            self._positions[organ] = np.frombuffer(data, "<u2").reshape(count, 3)
        return self._positions[organ]

    def read(self, start: Corner, size: Corner) -> tuple[npt.NDArray[np.int16], np.ndarray]:
        """A box that lies inside: int16 `[C, d, h, w]` and local label ids `[d, h, w]`.

        Raises:
            DataError: the file is gone or damaged.
        """
        header = self._header
        image = np.empty((header.shape[0], *size), np.int16)
        label = np.empty(size, header.label_dtype)
        for index in header.touching(start, size):
            low, high = header.box(index)
            voxels, ids = bricks.unpack(
                self._brick(index), header.bricks[index][1], header.shape[0], (low, high), header.label_dtype
            )
            first = [max(a, s) for a, s in zip(low, start, strict=True)]
            last = [min(b, s + n) for b, s, n in zip(high, start, size, strict=True)]
            here = tuple(slice(a - s, b - s) for a, b, s in zip(first, last, start, strict=True))
            there = tuple(slice(a - s, b - s) for a, b, s in zip(first, last, low, strict=True))
            image[(slice(None), *here)] = voxels[(slice(None), *there)]
            label[here] = ids[there]
        return image, label

    def _brick(self, index: int) -> bytes:
        data = self._cache.get((self.key, index))
        if data is None:
            offset, one, two, checksum = self._header.bricks[index]
            data = self._checked(offset, one + two, checksum)
            self._cache.put((self.key, index), data)
        return data

    def _checked(self, offset: int, length: int, checksum: str) -> bytes:
        data = bricks.read_range(self._path, self._start + offset, length)
        if xxhash.xxh3_64_hexdigest(data) != checksum:
            raise bricks.damaged(self._path)
        return data
