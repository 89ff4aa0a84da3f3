"""Strict reading of NIfTI: a file whose geometry or voxels are not certain is refused, with a reason.

The header comes first; what it announces is bounded before anything else is decompressed. Voxels are brought to
canonical order slab by slab, so that there is one copy of them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import inv_ornt_aff, io_orientation
from nibabel.volumeutils import apply_read_scaling

from lifelong_ct.data.readers.nifti_bytes import Bytes, Gzip, opened
from lifelong_ct.data.readers.nifti_header import LONGEST, Header, parse
from lifelong_ct.data.types import Grid, Volume, bad_file

SPARE = 1 << 20
"""Bytes that may stand behind the voxels."""
BOMB_BYTES, BOMB_RATIO = 128 << 20, 150
"""No scan is so large and at the same time so empty: zeros become 230 to 1,030 times smaller, scans 2 to 20 times."""
EMPTY_BYTES, EMPTY_RATIO = 256 << 20, 950
"""Nor are labels, of which nothing is known but that the scan is unreadable."""
MOST_TIMES = 4
"""Voxels of a label map or further channel, over those of its scan: more is not even read."""
SUFFIXES = (".nii", ".nii.gz")
_SLAB, _BLOCK = 8, 8
_START, _COUNTED = 1 << 20, 32 << 20
_HEAD = 1 << 14
"""Bytes, compressed or not, that hold a header for sure."""

Array = npt.NDArray[Any]


def reads(path: Path) -> bool:
    """Whether it is NIfTI by its name."""
    return path.name.endswith(SUFFIXES)


def grid(path: Path) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """Voxels per axis and affine, from the header.

    Raises:
        DataError: as `read_volume`, but for the voxels.
    """
    header = read_header(path)
    return header.shape, header.affine


def read_header(path: Path) -> Header:
    """The header alone.

    Raises:
        DataError: as `grid`.
    """
    with opened(path, most=_HEAD) as file:
        return parse(path, file.read(LONGEST))


def read_volume(path: Path, like: Grid | None = None) -> Volume:
    """Voxels and geometry of a `.nii` or `.nii.gz`, checked to the last byte.

    Voxels have the type of the file; scaled ones int16 or float32 where that is exact, else nibabel's type.
    Where there is a grid that it should be `like`, one of many times its voxels is refused by the header.

    Raises:
        DataError: with a code: missing, unreadable, not-a-file, not-nifti, corrupt, too-large, not-scalar,
            not-3d, too-thin, no-geometry, wrong-units, geometry-conflict, sheared, shape-mismatch.
    """
    return _read(path, like, BOMB_BYTES, BOMB_RATIO)


def read_ids(path: Path, like: Grid | None, shapes: object) -> Volume:
    """`read_volume` for labels, which may be almost empty."""
    return _read(path, like, EMPTY_BYTES, EMPTY_RATIO)


def _read(path: Path, like: Grid | None, bomb_bytes: int, bomb_ratio: int) -> Volume:
    with opened(path) as file:
        head = file.read(LONGEST)
        header = parse(path, head)
        _check_size(path, header, file)
        if like is None:
            _check_bomb(path, header, file, max(bomb_bytes, bomb_ratio * file.size))
        elif math.prod(header.shape) > MOST_TIMES * math.prod(like.shape):
            what = f"its shape is {header.shape}, that of its image {like.shape}"
            raise bad_file(path, what, "shape-mismatch", "resample it to the image")
        turn = io_orientation(header.affine)
        voxels = _voxels(file, head, header, turn)
        file.finish(SPARE)
    return Volume(
        voxels, header.affine @ inv_ornt_aff(turn, header.shape), header.affine, header.original_shape
    )


def _check_size(path: Path, header: Header, file: Bytes) -> None:
    announced = header.nbytes
    if announced > file.most:
        what = f"its header announces {announced} bytes, {file.size} in the file cannot hold them"
        raise bad_file(path, what, "corrupt", "copy it again")


def _check_bomb(path: Path, header: Header, file: Bytes, most: int) -> None:
    if isinstance(file, Gzip) and header.nbytes > most:
        what = (
            f"its header announces {header.nbytes} bytes in a file of {file.size}: it would be all but empty"
        )
        raise bad_file(path, what, "too-large", "check what it holds; crop it, or save it in a smaller type")
    if header.nbytes > _COUNTED:
        _check_start(file, header)


def _check_start(file: Bytes, header: Header) -> None:
    """Measures a stream that begins all but empty before memory is given to it."""
    file.restart()
    file.skip(_START)
    if BOMB_RATIO * file.taken < _START:
        file.skip(header.nbytes - _START)
        file.finish(SPARE)
    file.restart()
    file.skip(LONGEST)


def _voxels(file: Bytes, head: bytes, header: Header, turn: Array) -> Array:
    """In canonical order, C-contiguous."""
    early = head[header.offset :]  # the head of a short NIfTI-1 header reaches into the voxels
    file.skip(header.offset - len(head))
    x, y, z = header.shape
    raw = np.empty((x, y, min(_SLAB, z)), header.dtype, order="F")
    out: Array | None = None
    for start in range(0, z, _SLAB):
        slab = raw[..., : min(_SLAB, z - start)]
        buffer = slab.reshape(-1, order="F").view(np.uint8).data
        known = min(len(early), len(buffer))
        buffer[:known], early = early[:known], early[known:]
        file.fill(buffer[known:])
        scaled = _scaled(slab, header)
        out = _room(out, scaled.dtype, header.shape, turn, start)
        _put(_as_in_file(out, turn)[..., start : start + _SLAB], scaled)
    assert out is not None
    return out


def _scaled(slab: Array, header: Header) -> Array:
    """As nibabel scales, in the narrowest of int16 and float32 that is exact."""
    if (header.slope, header.intercept) == (1.0, 0.0):
        return slab
    with np.errstate(all="ignore"):
        wide = apply_read_scaling(slab, np.float64(header.slope), np.float64(header.intercept))
        for kind in (np.int16, np.float32):
            narrow = wide.astype(kind)
            if (narrow == wide).all():
                return narrow
    return wide


def _room(
    out: Array | None, dtype: np.dtype[Any], shape: tuple[int, int, int], turn: Array, filled: int
) -> Array:
    """The volume, in a type that holds what is in it and what comes; native byte order."""
    native = dtype.newbyteorder("=")
    if out is None:
        turned = [shape[i] for i in np.argsort(turn[:, 0])]
        return np.empty(turned, native)
    kind = np.result_type(out.dtype, native)
    if kind == out.dtype:
        return out
    wider = np.empty(out.shape, kind)
    _as_in_file(wider, turn)[..., :filled] = _as_in_file(out, turn)[..., :filled]
    return wider


def _as_in_file(out: Array, turn: Array) -> Array:
    """A view of canonical voxels with the axes of the file: the inverse of nibabel's `apply_orientation`."""
    view = out.transpose([int(axis) for axis in turn[:, 0]])
    return view[tuple(slice(None, None, int(flip)) for flip in turn[:, 1])]


def _put(target: Array, slab: Array) -> None:
    """Copies in blocks along the first axis: a whole slab against the grain misses the cache at every voxel."""
    for x in range(0, slab.shape[0], _BLOCK):
        target[x : x + _BLOCK] = slab[x : x + _BLOCK]
