"""The file of one volume: compressed bricks that can be read one by one, each with a checksum."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import xxhash

from lifelong_ct.core.errors import DataError
from lifelong_ct.data import positions
from lifelong_ct.data.types import RawCase, local_ids
from lifelong_ct.data.uncached import Runs, opened, read_runs

FAMILY, VERSION = b"LCTVOL", b"04"
BRICK = (16, 32, 96)
"""Voxels per axis, about: see `brick_shape`."""
POSITIONS = positions.MOST
"""Most voxel positions kept per organ."""
_PREFIX = 24
_ROW = np.dtype([("image", "<u4"), ("label", "<u4"), ("constant", "<u2"), ("check", "<u8")])
"""A brick: bytes of its image and labels (0: all have the value `constant`), xxh3-64 of both."""
_IMAGE: dict[str, Any] = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1}
_LABEL: dict[str, Any] = {"codec": blosc2.Codec.LZ4HC, "clevel": 9, "nthreads": 1}
blosc2.set_releasegil(True)  # off by default: threads would decompress one after the other

Corner = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a volume without reading its voxels; it is kept for every volume, so it is small.

    Attributes:
        shape: `(C, D, H, W)`.
        brick: voxels per axis of a brick.
        label_dtype: numpy name.
        organs: annotated organs.
        overlaps, scales: see `RawCase`, as the label's values.
        affine: 16 numbers, voxel index → mm, row by row.
        digest: xxh3-128 of voxels, labels and organs.
        counts: number of positions per group, see `groups`.
        voxels: how many voxels each group really has.
        top: the highest label.
        index: xxh3-64 of the index.
        nbytes: bytes that follow the header in the file.
        grid: bricks per axis.
    """

    shape: tuple[int, int, int, int]
    brick: Corner
    label_dtype: str
    organs: tuple[str, ...]
    overlaps: tuple[tuple[int, ...], ...]
    scales: tuple[tuple[float, float], ...]
    affine: array[float]
    digest: str
    counts: array[int]
    voxels: array[int]
    top: int
    index: int
    nbytes: int
    grid: Corner

    @property
    def index_bytes(self) -> int:
        """Bytes of the index, which comes first."""
        return math.prod(self.grid) * _ROW.itemsize + 8 * len(self.counts)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the order of `counts` and `voxels`."""
        return _names(self.organs, self.overlaps)

    def positions_at(self, group: int) -> int:
        """Where the positions of a group begin, counted from the index; past the last, the bricks do."""
        return self.index_bytes + 6 * sum(self.counts[:group])


class Index:
    """Where the bricks are, and the checksums.

    Args:
        header: of the volume.
        data: the bytes of the index.
    """

    def __init__(self, header: Header, data: bytes | memoryview) -> None:
        self._rows = np.frombuffer(data, _ROW, math.prod(header.grid))
        self.positions = np.frombuffer(data, "<u8", offset=self._rows.nbytes)
        self._ends = np.cumsum(self._rows["image"], dtype=np.int64) + np.cumsum(
            self._rows["label"], dtype=np.int64
        )
        self._start = header.positions_at(len(header.counts))

    def rows(self, numbers: Sequence[int]) -> list[tuple[int, int, int, int, int]]:
        """Per brick: offset from the index, bytes of image and labels, constant label, xxh3-64."""
        rows = self._rows[list(numbers)]
        image, label = rows["image"].astype(np.int64), rows["label"].astype(np.int64)
        starts = self._start + self._ends[list(numbers)] - image - label
        return list(zip(*(part.tolist() for part in (starts, image, label, rows["constant"], rows["check"]))))


def groups(organs: tuple[str, ...], overlaps: tuple[tuple[int, ...], ...]) -> dict[str, list[int]]:
    """Sets of label values whose positions are kept: each organ's under its name. Where organs overlap also each
    value alone, as `=value`: only these sets share no voxel. What nobody knows, the empty set, is in none."""
    named = {organ: local_ids(organ, organs, overlaps) for organ in organs}
    if overlaps:
        sets = [*((i,) for i in range(len(organs))), *overlaps]
        named.update({f"={value}": [value] for value, members in enumerate(sets, start=1) if members})
    return named


def brick_shape(shape: Sequence[int]) -> Corner:
    """The bricks of a volume `(D, H, W)`. They are long where voxels lie side by side in memory, so that a patch is
    copied in few, long runs, and W is cut into equal parts, so that none is a sliver. Measured beside other shapes
    in `benchmarks/README.md`."""
    d, h, w = BRICK
    parts = max(1, round(shape[2] / w))
    return min(d, shape[0]), min(h, shape[1]), -(-shape[2] // parts)


def pack(raw: RawCase) -> bytes:
    """The whole file of a case that is on the grid to be stored."""
    image = raw.image if raw.image.ndim == 4 else raw.image[None]
    label = np.zeros(image.shape[1:], np.uint8) if raw.label is None else raw.label
    rows, parts, brick = [], [], brick_shape(label.shape)
    for cut in _cuts(label.shape, brick):
        voxels, ids = _compress(image[(slice(None), *cut)], _IMAGE), label[cut]
        constant = int(ids.flat[0])
        packed = b"" if (ids == constant).all() else _compress(ids, _LABEL)
        parts.append(voxels + packed)
        rows.append(
            (len(voxels), len(packed), 0 if packed else constant, xxhash.xxh3_64_intdigest(parts[-1]))
        )
    found, totals = positions.sample(label, groups(raw.organs, raw.overlaps).values())
    checks = np.array([xxhash.xxh3_64_intdigest(part) for part in found], "<u8")
    index = np.array(rows, _ROW).tobytes() + checks.tobytes()
    header = {
        "shape": image.shape,
        "brick": brick,
        "label_dtype": label.dtype.name,
        "organs": raw.organs,
        "overlaps": raw.overlaps,
        "scales": raw.scales,
        "affine": [float(v) for v in raw.affine.flat],
        "digest": digest(image, label, raw.organs, raw.overlaps),
        "counts": [len(part) // 6 for part in found],
        "voxels": totals,
        "top": int(label.max()),
        "index": xxhash.xxh3_64_intdigest(index),
        "nbytes": len(index) + sum(map(len, found)) + sum(map(len, parts)),
    }
    text = json.dumps(header).encode()
    return b"".join((_prefix(FAMILY + VERSION, text), text, index, *found, *parts))


def read_header(path: Path) -> tuple[Header, int]:
    """The header, and where the index begins.

    Raises:
        DataError: not such a file, or damaged; newer_store where another version of this library wrote it.
    """
    with opened(path) as file:
        prefix = file.read(_PREFIX)
        length = int.from_bytes(prefix[8:16], "little")
        text = file.read(length) if prefix[:6] == FAMILY and length < 1 << 26 else b""
        total = os.fstat(file.fileno()).st_size
    if not text or _prefix(prefix[:8], text) != prefix:
        raise damaged(path)
    if prefix[6:8] != VERSION:
        raise DataError(
            f"the stored volume {path.stem} has format {prefix[6:8].decode()}; "
            f"this version of lifelong_ct reads format {VERSION.decode()}",
            str(path),
            "use the version that wrote it, or another folder for the store",
            "newer_store",
        )
    raw = json.loads(text)
    header = Header(
        tuple(raw["shape"]),
        _shared(tuple(raw["brick"])),
        sys.intern(raw["label_dtype"]),
        _shared(tuple(map(sys.intern, raw["organs"]))),
        _shared(tuple(map(tuple, raw["overlaps"]))),
        tuple((slope, offset) for slope, offset in raw["scales"]),
        array("d", raw["affine"]),
        raw["digest"],
        array("H", raw["counts"]),
        array("Q", raw["voxels"]),
        raw["top"],
        raw["index"],
        raw["nbytes"],
        _shared(tuple(-(-n // b) for n, b in zip(raw["shape"][1:], raw["brick"], strict=True))),
    )
    if total != _PREFIX + length + header.nbytes:
        raise damaged(path)
    return header, _PREFIX + length


def read_into(path: str, runs: Runs) -> None:
    """Fills buffers from the file.

    Raises:
        DataError: the file is gone, cannot be read or ends early.
    """
    try:
        read_runs(path, runs)
    except EOFError as error:
        raise damaged(path) from error
    except OSError as error:
        raise DataError(
            f"the stored volume {Path(path).stem} is gone: {error.strerror}",
            path,
            "start the run again",
            "gone",
        ) from error


def damaged(path: str | Path) -> DataError:
    """The error for a file whose bytes are not those that were written."""
    return DataError(
        f"the stored volume {Path(path).stem} is damaged",
        str(path),
        "delete the file; it is made again",
        "store_damaged",
    )


def digest(
    image: np.ndarray,
    label: np.ndarray,
    organs: tuple[str, ...],
    overlaps: tuple[tuple[int, ...], ...] = (),
) -> str:
    """Identifies the content, whatever its file was called."""
    state = xxhash.xxh3_128()
    for part in (image, label):
        state.update(repr((part.shape, part.dtype.name)).encode())
        state.update(np.ascontiguousarray(part).data)
    state.update("\x1f".join(organs).encode())
    if overlaps:
        state.update(repr(overlaps).encode())
    return state.hexdigest()


def _prefix(magic: bytes, text: bytes) -> bytes:
    """Promised to every version: family, version, bytes of the header, xxh3-64 of all that."""
    start = magic + len(text).to_bytes(8, "little")
    return start + xxhash.xxh3_64_digest(start + text)


def _cuts(shape: Sequence[int], brick: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Where the bricks lie, in the order of the file."""
    starts = (range(0, n, b) for n, b in zip(shape, brick, strict=True))
    for low in itertools.product(*starts):
        yield tuple(slice(a, min(a + b, n)) for a, b, n in zip(low, brick, shape, strict=True))


def _compress(part: np.ndarray, how: dict[str, Any]) -> bytes:
    """One block where it fits into the second-level cache: shuffled bytes, unless they are single anyway."""
    part = np.ascontiguousarray(part)
    filters = [blosc2.Filter.NOFILTER if part.itemsize == 1 else blosc2.Filter.SHUFFLE]
    params = blosc2.CParams(
        typesize=part.itemsize, blocksize=min(part.nbytes, 1 << 18), filters=filters, **how
    )
    return blosc2.compress2(part.data, cparams=params)


@lru_cache(maxsize=256)
def _names(organs: tuple[str, ...], overlaps: tuple[tuple[int, ...], ...]) -> tuple[str, ...]:
    return tuple(groups(organs, overlaps))


@lru_cache(maxsize=4096)
def _shared(value: Any) -> Any:
    """One tuple for all volumes that have an equal one."""
    return value
