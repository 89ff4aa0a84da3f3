"""Signed distance fields: `.npz` with `sdf` [D, H, W], the distance to the surface, negative inside, and `affine`
[4, 4], index → mm."""

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

KEY = "sdf"
STEEP = (0.5, 2.0)
"""mm per mm that a distance changes by at its surface: 1, less what voxels blur."""
SAMPLES = 4096


def reads(path: Path) -> bool:
    """Whether it is a NumPy archive with `sdf`."""
    return path.suffix.lower() == ".npz" and KEY in field.keys(path)


def grid(path: Path, shapes: Shapes) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """Its voxels and affine.

    Raises:
        DataError: as `read_volume`.
    """
    frame = field.shape_of(path, KEY, shapes)
    return frame.shape, frame.affine


def read_volume(path: Path, like: Grid | None, shapes: Shapes) -> Volume:
    """mm to the surface, negative inside: on its own grid, or float32 on that of `like`, where beyond its own the
    nearest value stands.

    Raises:
        DataError: as `field.load`; or empty-shape, wrong-sign, wrong-units.
    """
    voxels, frame = _load(path, shapes)
    steep = _steepness(voxels, frame)
    if not STEEP[0] <= steep <= STEEP[1]:
        what = f"its values change by {steep:g} per mm at the surface: they are no distances in mm"
        raise bad_file(
            path, what, "wrong-units", "scale them to mm, or set shapes.unit for values and affine"
        )
    if like is None:
        return canonical(voxels, frame.affine, frame.shape)
    return Frame.of(like).volume(field.onto(voxels, frame, like))


def read_ids(path: Path, like: Grid | None, shapes: Shapes) -> Volume:
    """uint8: 1 where the distance is negative; beyond its own grid nothing is inside.

    Raises:
        DataError: as `field.load`; or empty-shape, wrong-sign, outside-image.
    """
    voxels, frame = _load(path, shapes)
    if like is None:
        return canonical((voxels < 0).view(np.uint8), frame.affine, frame.shape)
    field.check_inside(path, voxels < 0, frame, like)
    return Frame.of(like).volume((field.onto(voxels, frame, like, outside=1.0) < 0).view(np.uint8))


def _load(path: Path, shapes: Shapes) -> tuple[Any, Frame]:
    voxels, frame = field.load(path, KEY, shapes)
    inside = voxels < 0
    if not inside.any() or inside.all():
        what = "it has no surface: all of its values are on one side"
        raise bad_file(path, what, "empty-shape", "give distances, negative inside")
    faces = [inside.take(end, axis).ravel() for axis in range(3) for end in (0, -1)]
    share = float(np.concatenate(faces).mean())
    if share > 0.5:
        what = f"{share:.0%} of its outermost voxels are inside: its sign is turned"
        raise bad_file(path, what, "wrong-sign", "negate it: distances are negative inside")
    return (voxels if shapes.scale == 1 else voxels * np.float32(shapes.scale)), frame


def _steepness(voxels: Any, frame: Frame) -> float:
    """Median length of the gradient in mm per mm, beside changes of sign along the axes."""
    inside = voxels < 0
    found = [np.argwhere(np.diff(inside, axis=axis)) for axis in range(3)]
    at = np.concatenate([part[:: max(1, len(part) // SAMPLES)] for part in found])
    at = np.clip(at, 1, np.array(frame.shape) - 2)
    if min(frame.shape) < 3:
        return 1.0  # too thin to tell
    slopes = []
    for axis in range(3):
        before, after = at.copy(), at.copy()
        before[:, axis] -= 1
        after[:, axis] += 1
        slopes.append((voxels[tuple(after.T)] * 1.0 - voxels[tuple(before.T)]) / 2)
    gradient = np.stack(slopes, 1) @ np.linalg.inv(frame.affine[:3, :3])
    return float(np.median(np.linalg.norm(gradient, axis=1)))
