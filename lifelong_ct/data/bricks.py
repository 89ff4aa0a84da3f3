"""The file of one volume: compressed bricks that can be read one by one, each with a checksum."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import xxhash

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.types import RawCase, local_ids

MAGIC = b"LCTVOL03"
SMALL = 96
"""Volumes up to this many voxels per axis use bricks of 32, larger ones of 64."""
POSITIONS = 2048
"""Most voxel positions kept per organ."""
_IMAGE: dict[str, Any] = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1}
_LABEL: dict[str, Any] = {"codec": blosc2.Codec.LZ4, "clevel": 5, "nthreads": 1}

Corner = tuple[int, int, int]


@dataclass(frozen=True)
class Header:
    """What is known of a volume without reading its voxels.

    Attributes:
        shape: `(C, D, H, W)`.
        brick: voxels per axis of a brick.
        label_dtype: numpy name.
        organs: annotated organs.
        overlaps, scales: see `RawCase`, as the label's values.
        affine: `[4][4]`, voxel index → mm.
        digest: xxh3-128 of voxels, labels and organs.
        bricks: per brick: offset, bytes of the image, bytes of the label, xxh3-64 of both.
        positions: group → offset and number of its positions, xxh3-64 of them; see `groups`.
        voxels: group → how many voxels it really has.
    """

    shape: tuple[int, int, int, int]
    brick: int
    label_dtype: str
    organs: tuple[str, ...]
    overlaps: tuple[tuple[int, ...], ...]
    scales: tuple[tuple[float, float], ...]
    affine: tuple[tuple[float, ...], ...]
    digest: str
    bricks: tuple[tuple[int, int, int, str], ...]
    positions: dict[str, tuple[int, int, str]]
    voxels: dict[str, int] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes that follow the header in the file."""
        ends = [o + a + b for o, a, b, _ in self.bricks] + [o + 6 * n for o, n, _ in self.positions.values()]
        return max(ends, default=0)

    @cached_property
    def counts(self) -> tuple[int, int, int]:
        """Bricks per axis."""
        d, h, w = (-(-n // self.brick) for n in self.shape[1:])
        return d, h, w

    def box(self, index: int) -> tuple[Corner, Corner]:
        """First and past-the-last voxel of a brick."""
        at = np.unravel_index(index, self.counts)
        low = [int(i) * self.brick for i in at]
        high = [min(a + self.brick, n) for a, n in zip(low, self.shape[1:], strict=True)]
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def touching(self, start: Corner, size: Corner) -> Iterator[int]:
        """Bricks that a box overlaps."""
        ranges = (range(a // self.brick, -(-(a + n) // self.brick)) for a, n in zip(start, size, strict=True))
        for at in itertools.product(*ranges):
            yield int(np.ravel_multi_index(at, self.counts))


def groups(organs: tuple[str, ...], overlaps: tuple[tuple[int, ...], ...]) -> dict[str, list[int]]:
    """Sets of label values whose positions are kept: each organ's under its name. Where organs overlap also each
    value alone, as `=value`: only these sets share no voxel."""
    named = {organ: local_ids(organ, organs, overlaps) for organ in organs}
    if overlaps:
        named.update({f"={value}": [value] for value in range(1, 1 + len(organs) + len(overlaps))})
    return named


def pack(raw: RawCase) -> bytes:
    """The whole file of a case that is on the grid to be stored."""
    image = raw.image if raw.image.ndim == 4 else raw.image[None]
    label = np.zeros(image.shape[1:], np.uint8) if raw.label is None else raw.label
    organs, overlaps = raw.organs, raw.overlaps
    brick = 32 if max(image.shape[1:]) <= SMALL else 64
    shape = (image.shape[0], image.shape[1], image.shape[2], image.shape[3])
    rows = tuple(tuple(float(v) for v in row) for row in raw.affine)
    name = digest(image, label, organs, overlaps)
    draft = Header(shape, brick, label.dtype.name, organs, overlaps, raw.scales, rows, name, (), {})
    parts: list[bytes] = []
    table: list[tuple[int, int, int, str]] = []
    offset = 0
    for index in range(int(np.prod(draft.counts))):
        low, high = draft.box(index)
        cut = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        one, two = _compress(image[(slice(None), *cut)], _IMAGE), _compress(label[cut], _LABEL)
        parts.append(one + two)
        table.append((offset, len(one), len(two), xxhash.xxh3_64_hexdigest(one + two)))
        offset += len(one) + len(two)
    positions: dict[str, tuple[int, int, str]] = {}
    voxels: dict[str, int] = {}
    for group, values in groups(organs, overlaps).items():
        found, voxels[group] = _positions(label, values)
        parts.append(found.astype("<u2").tobytes())
        positions[group] = (offset, len(found), xxhash.xxh3_64_hexdigest(parts[-1]))
        offset += len(parts[-1])
    header = {**vars(draft), "bricks": table, "positions": positions, "voxels": voxels}
    text = json.dumps({k: v for k, v in header.items() if k != "counts"}).encode()
    prefix = MAGIC + len(text).to_bytes(8, "little") + xxhash.xxh3_64_digest(text)
    return b"".join((prefix, text, *parts))


def read_header(path: Path) -> tuple[Header, int]:
    """The header, and where the bricks begin.

    Raises:
        DataError: not such a file, or damaged.
    """
    with open(path, "rb") as file:
        prefix = file.read(24)
        length = int.from_bytes(prefix[8:16], "little")
        text = file.read(length) if prefix[:8] == MAGIC and length < 1 << 30 else b""
        total = os.fstat(file.fileno()).st_size
    if not text or xxhash.xxh3_64_digest(text) != prefix[16:24]:
        raise damaged(path)
    raw = json.loads(text)
    if "voxels" not in raw:  # written before they were counted
        raise damaged(path)
    header = Header(
        tuple(raw["shape"]),
        raw["brick"],
        raw["label_dtype"],
        tuple(raw["organs"]),
        tuple(tuple(members) for members in raw["overlaps"]),
        tuple((slope, offset) for slope, offset in raw["scales"]),
        tuple(tuple(row) for row in raw["affine"]),
        raw["digest"],
        tuple((o, a, b, s) for o, a, b, s in raw["bricks"]),
        {group: (o, n, s) for group, (o, n, s) in raw["positions"].items()},
        raw["voxels"],
    )
    if total != 24 + length + header.nbytes:
        raise damaged(path)
    return header, 24 + length


def read_range(path: Path, offset: int, length: int) -> bytes:
    """Bytes of a file, without leaving them in the page cache.

    Raises:
        DataError: the file is gone or ends early.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(
            f"the stored volume {path.stem} is gone: {error.strerror}",
            str(path),
            "start the run again",
            "gone",
        ) from error
    try:
        data = os.pread(handle, length, offset)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, offset, length, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    if len(data) != length:
        raise damaged(path)
    return data


def unpack(data: bytes, image_bytes: int, channels: int, box: tuple[Corner, Corner], label_dtype: str) -> Any:
    """One brick: int16 `[C, d, h, w]` and labels `[d, h, w]`."""
    shape = tuple(b - a for a, b in zip(*box, strict=True))
    view = memoryview(data)  # a context of several threads costs more than the brick
    image = np.frombuffer(blosc2.decompress2(view[:image_bytes], nthreads=1), np.int16)
    label = np.frombuffer(blosc2.decompress2(view[image_bytes:], nthreads=1), label_dtype).reshape(shape)
    image = image.reshape(channels, *shape)
    return image, label


def damaged(path: Path) -> DataError:
    """The error for a file whose bytes are not those that were written."""
    return DataError(
        f"the stored volume {path.stem} is damaged",
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


def _compress(array: np.ndarray, how: dict[str, Any]) -> bytes:
    array = np.ascontiguousarray(array)
    return blosc2.compress2(array.tobytes(), cparams=blosc2.CParams(typesize=array.itemsize, **how))


def _positions(label: np.ndarray, values: list[int]) -> tuple[np.ndarray, int]:
    """At most `POSITIONS` voxels `[n, 3]` with these values, evenly spread in memory order, and how many
    there are."""
    flat = np.flatnonzero(label == values[0] if len(values) == 1 else np.isin(label, values))
    total = len(flat)
    if total > POSITIONS:
        flat = flat[np.linspace(0, total - 1, POSITIONS).astype(np.int64)]
    return np.stack(np.unravel_index(flat, label.shape), axis=1), total
