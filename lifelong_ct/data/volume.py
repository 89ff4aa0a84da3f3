"""A stored volume, read patch by patch through a cache of compressed bricks that is bounded in bytes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from lifelong_ct.core.errors import DataError
from lifelong_ct.data import bricks
from lifelong_ct.data.brick_cache import BrickCache, Entry, Pin
from lifelong_ct.data.bricks import Corner
from lifelong_ct.data.unpacking import Box, Unpack

__all__ = ["BrickCache", "StoredVolume"]

AT_ONCE = 4 << 20
"""Compressed bytes that are read before they are unpacked, at most (one brick may be larger)."""
VECTORS = 512
"""Buffers per call, at most; systems allow 1,024."""
_INDEX = 1 << 30
"""Number of the index among the bricks of a volume; those after it are the positions of its organs."""


class StoredVolume:
    """A volume that is opened. What is held of it are its metadata, about 1 KB; the rest is in the cache.

    Attributes:
        key: name in the store.
        cache: of its bricks and positions.
        channels: of the image.
        shape: voxels `(D, H, W)`.
        closed: nothing more may be read.
    """

    __slots__ = ("_header", "_path", "_start", "cache", "channels", "closed", "key", "shape")

    def __init__(self, key: str, path: Path, cache: BrickCache) -> None:
        self.key, self._path, self.cache, self.closed = key, os.fspath(path), cache, False
        self._header, self._start = bricks.read_header(path)
        self.channels, d, h, w = self._header.shape
        self.shape = (d, h, w)

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self._path)

    @property
    def digest(self) -> str:
        """Hash of its content."""
        return self._header.digest

    @property
    def organs(self) -> tuple[str, ...]:
        """See `RawCase`."""
        return self._header.organs

    @property
    def overlaps(self) -> tuple[tuple[int, ...], ...]:
        """See `RawCase`."""
        return self._header.overlaps

    @property
    def scales(self) -> tuple[tuple[float, float], ...]:
        """See `RawCase`."""
        return self._header.scales

    @property
    def voxels(self) -> dict[str, int]:
        """Group → number of its voxels, of groups that share no voxel and together are all that is annotated:
        the organs, or `=value` where organs overlap; see `bricks.groups`."""
        first = len(self.organs) if self.overlaps else 0
        return dict(zip(self._header.groups[first:], self._header.voxels[first:]))

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """Voxel index → mm, `[4, 4]`."""
        return np.array(self._header.affine).reshape(4, 4)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm per axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def nbytes(self) -> int:
        """Bytes of the file behind its header."""
        return self._header.nbytes

    def close(self) -> None:
        """Ends every reading, for good: a stream that shows each case once has shown this one."""
        self.closed = True
        self.cache.drop(self.key)

    def count(self, group: str) -> int:
        """How many positions there are of a group; nothing is read."""
        return self._header.counts[self._header.groups.index(group)]

    def positions(self, group: str) -> npt.NDArray[np.uint16]:
        """Voxels of a group `[n, 3]`, at most `bricks.POSITIONS`.

        Raises:
            DataError: the volume is closed, or its file is gone or damaged.
        """
        self._check_open()
        number = self._header.groups.index(group)
        count = self._header.counts[number]
        if count == 0:
            return np.empty((0, 3), np.uint16)
        base = self.cache.base(self.key)
        held, entry = self._find(base + _INDEX + 1 + number)
        if entry is None:
            held, index = self._index(base)
            check = int(index.positions[number])
            held, entry = self._part(
                base + _INDEX + 1 + number, self._header.positions_at(number), 6 * count, check
            )
        found = np.frombuffer(entry.image, "<u2").reshape(count, 3).copy()
        del held
        return found

    def read(
        self,
        start: Corner,
        size: Corner,
        image: npt.NDArray[np.int16] | None = None,
        label: np.ndarray | None = None,
        lut: np.ndarray | None = None,
    ) -> tuple[npt.NDArray[np.int16], np.ndarray]:
        """A box that lies inside.

        Args:
            start: first voxel.
            size: voxels per axis.
            image: int16 `[C, d, h, w]` to be filled, a view into a batch for instance; None for a new one.
            label: `[d, h, w]` likewise.
            lut: what stands for each local label id in `label`; None for the ids themselves.

        Returns:
            `image` and `label`.

        Raises:
            DataError: the volume is closed, or its file is gone or damaged.
            IndexError: a label may come that `lut` does not have.
        """
        self._check_open()
        header = self._header
        if lut is not None and len(lut) <= header.top:
            raise IndexError(f"label {header.top} of {len(lut)}")
        if image is None:
            image = np.empty((header.shape[0], *size), np.int16)
        if label is None:
            label = np.empty(size, header.label_dtype if lut is None else lut.dtype)
        unpack = Unpack(header, image, label, lut)
        pin = self.cache.pin  # before the look-ups: what they find stays as it is until it is dropped
        find, base = self.cache.entries.get, self.cache.base(self.key)
        missing: dict[int, Box] = {}
        for number, box in _boxes(header, start, size):
            entry = find(base + number)
            if entry is None:
                missing[number] = box
            else:
                entry.hit = True
                unpack(entry, *box)
        del pin
        if missing:
            for number, entry in self._load(base, list(missing)):
                unpack(entry, *missing[number])
        return image, label

    def _check_open(self) -> None:
        if self.closed:
            raise DataError(
                f"the stored volume {self.key} is closed: its case has been shown",
                f"case {self.digest}",
                "data.schedule=one_pass reads each case once; use epochs or with_replacement to read it again",
                "closed",
            )

    def _find(self, key: int) -> tuple[Pin, Entry | None]:
        """A part that is in the cache, and what keeps it readable."""
        pin = self.cache.pin
        entry = self.cache.entries.get(key)
        if entry is not None:
            entry.hit = True
        return pin, entry

    def _index(self, base: int) -> tuple[Pin, bricks.Index]:
        held, entry = self._find(base + _INDEX)
        if entry is None:
            held, entry = self._part(base + _INDEX, 0, self._header.index_bytes, self._header.index)
        return held, bricks.Index(self._header, entry.image)

    def _part(self, key: int, offset: int, nbytes: int, check: int) -> tuple[Pin, Entry]:
        """Index or positions from the file."""
        pin, [(view, segment)] = self.cache.take([nbytes])
        bricks.read_into(self._path, [(self._start + offset, [view])])
        if xxhash.xxh3_64_intdigest(view) != check:
            raise bricks.damaged(self._path)
        entry = Entry(view, 0)
        self.cache.keep([(key, entry, segment)])
        return pin, entry

    def _load(self, base: int, numbers: Sequence[int]) -> Iterator[tuple[int, Entry]]:
        """Bricks from the file, checked; each may be read until the next is asked for."""
        held, index = self._index(base)
        rows = index.rows(numbers)
        del held, index
        done = 0
        while done < len(numbers):
            end, nbytes = done, 0
            while end < len(numbers) and (end == done or nbytes + rows[end][1] + rows[end][2] <= AT_ONCE):
                nbytes += rows[end][1] + rows[end][2]
                end += 1
            pin, parts = self.cache.take([one + two for _, one, two, _, _ in rows[done:end]])
            bricks.read_into(self._path, _runs(self._start, rows[done:end], [view for view, _ in parts]))
            read = []
            for number, (view, segment), (_, one, two, constant, check) in zip(
                numbers[done:end], parts, rows[done:end]
            ):
                if xxhash.xxh3_64_intdigest(view) != check:
                    raise bricks.damaged(self._path)
                entry = Entry(view[:one], view[one:]) if two else Entry(view, constant)
                read.append((base + number, entry, segment))
            self.cache.keep(read)
            yield from zip(numbers[done:end], (entry for _, entry, _ in read))
            del pin
            done = end


def _boxes(header: bricks.Header, start: Corner, size: Corner) -> Iterator[tuple[int, Box]]:
    """The bricks that a patch overlaps, in the order of the file."""
    _, h, w = header.grid
    per_axis = []
    for first, n, brick, end, step in zip(start, size, header.brick, header.shape[1:], (h * w, w, 1)):
        spans = []
        for number in range(first // brick, -(-(first + n) // brick)):
            low = number * brick
            a, b = max(first, low), min(first + n, low + brick)
            spans.append(
                (number * step, slice(a - first, b - first), slice(a - low, b - low), min(brick, end - low))
            )
        per_axis.append(spans)
    for (i, to_d, of_d, d), (j, to_h, of_h, h), (k, to_w, of_w, w) in itertools.product(*per_axis):
        yield i + j + k, ((to_d, to_h, to_w), (of_d, of_h, of_w), (d, h, w))


def _runs(
    start: int, rows: Sequence[tuple[int, ...]], views: Sequence[memoryview]
) -> list[tuple[int, list[memoryview]]]:
    """Bricks that lie one behind the other in the file are read with one call."""
    runs: list[tuple[int, list[memoryview]]] = []
    end = -1
    for (offset, *_), view in zip(rows, views):
        if offset == end and len(runs[-1][1]) < VECTORS:
            runs[-1][1].append(view)
        else:
            runs.append((start + offset, [view]))
        end = offset + len(view)
    return runs
