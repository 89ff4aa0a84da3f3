"""Points (XYZ text, PLY without faces, NumPy `[n, 3]`): 1 in every voxel that holds one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.readers import mesh
from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.readers.placing import Frame, check_inside, in_mm, own_frame
from lifelong_ct.data.types import Grid, Volume, bad_file

SUFFIXES = (".xyz", ".npy", ".ply")


def reads(path: Path) -> bool:
    """Whether it is points by its name; a PLY with faces is a mesh."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES and (suffix != ".ply" or mesh.ply_faces(path) == 0)


def grid(path: Path, shapes: Shapes) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """The grid of its own that the options give it.

    Raises:
        DataError: as `read_volume`.
    """
    frame = own_frame(path, in_mm(path, _points(path), shapes), shapes)
    return frame.shape, frame.affine


def read_volume(path: Path, like: Grid | None, shapes: Shapes) -> Volume:
    """uint8: 1 where a voxel holds a point; on the grid of `like`, else on one of its own. Points are no
    surface: what they enclose is not filled.

    Raises:
        DataError: missing, corrupt, not-points, as `in_mm` and `own_frame`, outside-image.
    """
    points = in_mm(path, _points(path), shapes)
    frame = own_frame(path, points, shapes) if like is None else Frame.of(like)
    index = frame.index(points)
    check_inside(path, frame, index, 1e-6)
    at = np.clip(np.rint(index).astype(np.int64), 0, np.array(frame.shape) - 1)
    voxels = np.zeros(frame.shape, np.uint8)
    voxels[tuple(at.T)] = 1
    return frame.volume(voxels)


def _points(path: Path) -> Any:
    try:
        points = _READ[path.suffix.lower()](path)
    except OSError as error:
        raise bad_file(path, f"it cannot be read: {error.strerror}", "missing", "check the path") from error
    except (ValueError, EOFError, UnicodeDecodeError) as error:
        raise bad_file(path, f"it is no points: {error}", "corrupt", "write x y z per point") from error
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "iuf":
        what = f"it has shape {points.shape} and type {points.dtype}"
        raise bad_file(path, what, "not-points", "give [n, 3] numbers")
    return points


def _text(path: Path) -> Any:
    """The first three columns, separated by spaces, commas or semicolons; `#` begins a comment."""
    with path.open(encoding="utf-8") as file:
        lines = (line.replace(",", " ").replace(";", " ") for line in file)
        return np.loadtxt(lines, usecols=(0, 1, 2), ndmin=2)


def _numpy(path: Path) -> Any:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _ply(path: Path) -> Any:
    return np.asarray(mesh.load(path).vertices)


_READ = {".xyz": _text, ".npy": _numpy, ".ply": _ply}
