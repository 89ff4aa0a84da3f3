"""Occupancy grids: `.npz` with `occupancy` [D, H, W], the share of each voxel that is inside, and `affine` [4, 4],
index → mm. A mask of booleans is one too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.readers import field
from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.readers.placing import Frame
from lifelong_ct.data.readers.turned import canonical
from lifelong_ct.data.types import Grid, Volume, bad_file

KEY = "occupancy"


def reads(path: Path) -> bool:
    """Whether it is a NumPy archive by its name; one with `sdf` is a signed distance field."""
    return path.suffix.lower() == ".npz" and "sdf" not in field.keys(path)


def grid(path: Path, shapes: Shapes) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """Its voxels and affine.

    Raises:
        DataError: as `read_volume`.
    """
    frame = field.shape_of(path, KEY, shapes)
    return frame.shape, frame.affine


def read_volume(path: Path, like: Grid | None, shapes: Shapes) -> Volume:
    """The share that is inside, 0 to 1: on its own grid, or float32 on that of `like` and 0 beyond its own.

    Raises:
        DataError: as `field.load`; or out-of-range, empty-shape.
    """
    voxels, frame = _load(path, shapes)
    if like is None:
        return canonical(voxels, frame.affine, frame.shape)
    return Frame.of(like).volume(field.onto(voxels, frame, like, outside=0.0))


def read_ids(path: Path, like: Grid | None, shapes: Shapes) -> Volume:
    """uint8: 1 where half of a voxel or more is inside.

    Raises:
        DataError: as `read_volume`; or outside-image.
    """
    voxels, frame = _load(path, shapes)
    if like is None:
        return canonical((voxels >= 0.5).view(np.uint8), frame.affine, frame.shape)
    field.check_inside(path, voxels >= 0.5, frame, like)
    return Frame.of(like).volume((field.onto(voxels, frame, like, outside=0.0) >= 0.5).view(np.uint8))


def _load(path: Path, shapes: Shapes) -> tuple[Any, Frame]:
    voxels, frame = field.load(path, KEY, shapes)
    low, high = float(voxels.min()), float(voxels.max())
    if low < 0 or high > 1:
        what = f"its values reach from {low:g} to {high:g}"
        raise bad_file(path, what, "out-of-range", "give shares from 0 (outside) to 1 (inside)")
    if high == 0:
        raise bad_file(path, "nothing is inside", "empty-shape", "export it again")
    return voxels, frame
