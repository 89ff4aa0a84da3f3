"""Numbers on a grid of their own in a NumPy archive, brought onto another grid."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.readers.placing import Frame, check_extent, check_space
from lifelong_ct.data.types import Grid, bad_file

MOST_BYTES = 16 << 30
SLAB_VOXELS = 1 << 20


def keys(path: Path) -> list[str]:
    """Names of the arrays of an archive; none where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError):
        return []


def shape_of(path: Path, key: str, shapes: Shapes) -> Frame:
    """The grid of a field, from headers: its voxels and `affine`, as mm and RAS+.

    Raises:
        DataError: missing, corrupt, not-3d, too-thin, not-scalar, too-large, no-geometry, sheared, wrong-units,
            wrong-space.
    """
    for name in (key, "affine"):
        if name not in keys(path):
            _openable(path)
            what = f"it has {', '.join(keys(path)) or 'nothing'} and no `{name}`"
            fix = "give `affine` [4, 4] and either `occupancy` or `sdf` [D, H, W] (numpy.savez)"
            raise bad_file(path, what, "corrupt", fix)
    shape, dtype = _declared(path, key)
    if len(shape) != 3:
        raise bad_file(path, f"`{key}` has shape {shape}", "not-3d", "give [D, H, W]")
    if min(shape) < 2:
        raise bad_file(path, f"`{key}` has shape {shape}", "too-thin", "give several slices")
    if dtype.kind not in "biuf":
        raise bad_file(path, f"`{key}` has the type {dtype}", "not-scalar", "give one number per voxel")
    return Frame(_affine(path, shape, shapes), (shape[0], shape[1], shape[2]))


def load(path: Path, key: str, shapes: Shapes) -> tuple[Any, Frame]:
    """A field and its grid, in the order of the file.

    Raises:
        DataError: as `shape_of`; or corrupt, non-finite.
    """
    frame = shape_of(path, key, shapes)
    voxels = _array(path, key)
    voxels = voxels.view(np.uint8) if voxels.dtype == bool else voxels
    if not np.isfinite(voxels).all():
        raise bad_file(path, f"`{key}` has voxels that are no numbers", "non-finite", "export it again")
    return voxels, frame


def onto(
    voxels: npt.NDArray[Any], frame: Frame, like: Grid, outside: float | None = None
) -> npt.NDArray[np.float32]:
    """A field at the voxel centres of another grid, float32, linear between its own centres.

    Args:
        voxels: on `frame`.
        frame: index → mm.
        like: the other grid.
        outside: of a centre in no voxel of `frame`; None: the nearest value.
    """
    result = np.empty(like.shape, np.float32)
    for part, at in _slabs(like, frame):
        ndimage.map_coordinates(voxels, at, output=result[part], order=1, mode="nearest", prefilter=False)
        if outside is not None:
            result[part][_beyond(at, frame.shape, 0.5)] = outside
    return result


def check_inside(path: Path, inside: npt.NDArray[np.bool_], frame: Frame, like: Grid) -> None:
    """Finds voxels of a shape that lie outside its image, by more than a voxel of it.

    Raises:
        DataError: outside-image.
    """
    outside = sum(
        np.count_nonzero(inside[part] & _beyond(at, like.shape, 1.5)) for part, at in _slabs(frame, like)
    )
    if outside:
        what = f"{outside} of its {np.count_nonzero(inside)} voxels lie outside the image"
        fix = "check shapes.space (RAS or LPS), shapes.unit and its affine, or cut it to the image"
        raise bad_file(path, what, "outside-image", fix)


def _slabs(grid: Grid, other: Grid) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Parts of a grid along its first axis, with the index `[3, d, h, w]` of their voxels in another grid."""
    steps = np.linalg.inv(other.affine) @ grid.affine
    depth, rows, width = grid.shape
    planes = max(1, SLAB_VOXELS // (rows * width))
    for first in range(0, depth, planes):
        d, h, w = np.ogrid[first : min(first + planes, depth), 0:rows, 0:width]
        at = [steps[k, 0] * d + steps[k, 1] * h + steps[k, 2] * w + steps[k, 3] for k in range(3)]
        yield slice(first, first + planes), np.stack(at)


def _beyond(at: npt.NDArray[np.float64], shape: Sequence[int], slack: float) -> npt.NDArray[np.bool_]:
    """Where an index lies more than `slack` voxels beyond the outermost centres."""
    last = np.array(shape)[:, None, None, None] - 1
    slack += 1e-6  # borders that two affines share are not cut by rounding
    return np.any((at < -slack) | (at > last + slack), axis=0)


def _affine(path: Path, shape: tuple[int, ...], shapes: Shapes) -> npt.NDArray[np.float64]:
    given = _array(path, "affine", most=1 << 12)
    good = given.shape == (4, 4) and given.dtype.kind in "iuf" and np.isfinite(given).all()
    if not good or abs(np.linalg.det(given)) < 1e-12 or not np.allclose(given[3], (0, 0, 0, 1)):
        raise bad_file(path, "`affine` is no map from index to mm", "no-geometry", "give [4, 4] numbers")
    check_space(path, shapes)
    affine = shapes.to_mm @ np.asarray(given, np.float64)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    check_extent(path, float((spacing * shape).max()), shapes)
    directions = affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-2:
        raise bad_file(path, "its axes are not at right angles", "sheared", "resample it upright")
    return affine


def _declared(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array that is as long as it says."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                version, np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = header(file)
            length = file.tell() + math.prod(shape) * dtype.itemsize
            size = archive.getinfo(f"{key}.npy").file_size
    except Exception as error:  # numpy's parser meets any bytes here
        raise _corrupt(path, error) from error
    if length != size:
        raise bad_file(
            path, f"`{key}` has {size} bytes where it announces {length}", "corrupt", "write it again"
        )
    if size > MOST_BYTES:
        raise bad_file(path, f"`{key}` would take {size} bytes", "too-large", "crop it")
    return shape, dtype


def _array(path: Path, key: str, most: int = MOST_BYTES) -> Any:
    shape, dtype = _declared(path, key)
    if math.prod(shape) * dtype.itemsize > most:
        raise bad_file(path, f"`{key}` has shape {shape}", "no-geometry", "give [4, 4] numbers")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[key]
    except Exception as error:  # zlib, zipfile and numpy meet any bytes here
        raise _corrupt(path, error) from error


def _openable(path: Path) -> None:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file):
            pass
    except OSError as error:
        raise bad_file(path, f"it cannot be read: {error.strerror}", "missing", "check the path") from error
    except (zipfile.BadZipFile, ValueError) as error:
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> Exception:
    return bad_file(
        path, f"it is no whole NumPy archive ({type(error).__name__})", "corrupt", "write it again"
    )
