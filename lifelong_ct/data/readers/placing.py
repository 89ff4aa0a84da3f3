"""Where a shape lies, against the grid that it is brought to."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.types import Grid, Volume, bad_file

SMALLEST, LARGEST = 2.5, 2500.0
"""mm; a patient in metres is smaller than the one, a structure in micrometres larger than the other."""
MOST_VOXELS = 1 << 32
_DECLARED = re.compile(rb"SPACE\s*=\s*(RAS|LPS)")


@dataclass(frozen=True)
class Frame:
    """A grid.

    Attributes:
        affine: float64 `[4, 4]`, index → mm, RAS+.
        shape: voxels `(D, H, W)`.
    """

    affine: npt.NDArray[np.float64]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, like: Grid) -> Frame:
        """The grid of a volume."""
        return cls(np.asarray(like.affine, np.float64), like.shape)

    def index(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """mm `[n, 3]` → voxel index, not rounded."""
        inverse = np.linalg.inv(self.affine)
        return points @ inverse[:3, :3].T + inverse[:3, 3]

    def volume(self, voxels: npt.NDArray[np.generic]) -> Volume:
        """Numbers on this grid."""
        return Volume(voxels, self.affine, self.affine, self.shape)


def in_mm(path: Path, points: npt.ArrayLike, shapes: Shapes) -> npt.NDArray[np.float64]:
    """Points of a file `[n, 3]` → mm, RAS+.

    Raises:
        DataError: empty-shape, non-finite, wrong-units, wrong-space.
    """
    array = np.asarray(points, np.float64)
    if not len(array):
        raise bad_file(path, "it has no points", "empty-shape", "export it again")
    if not np.isfinite(array).all():
        raise bad_file(path, "it has coordinates that are no numbers", "non-finite", "export it again")
    check_space(path, shapes)
    placed = array * np.diag(shapes.to_mm)[:3]
    check_extent(path, float(np.ptp(placed, axis=0).max()), shapes)
    return placed


def check_extent(path: Path, extent: float, shapes: Shapes) -> None:
    """Finds units that cannot be: `extent` is the longest side in mm.

    Raises:
        DataError: wrong-units.
    """
    if not SMALLEST <= extent <= LARGEST:
        other = "m" if extent < SMALLEST else "µm"
        fix = "shapes: {unit: m}" if extent < SMALLEST and shapes.unit == "mm" else "scale it to mm"
        what = f"with shapes.unit={shapes.unit} it is {extent:g} mm long: is it in {other}?"
        raise bad_file(path, what, "wrong-units", fix)


def check_space(path: Path, shapes: Shapes) -> None:
    """Finds files that declare another space than the option, as 3D Slicer does in comments.

    Raises:
        DataError: wrong-space.
    """
    with path.open("rb") as file:
        declared = _DECLARED.search(file.read(4096))
    if declared and declared[1].decode() != shapes.space:
        what = f"it says SPACE={declared[1].decode()}, the option is {shapes.space}"
        raise bad_file(path, what, "wrong-space", f"shapes: {{space: {declared[1].decode()}}}")


def own_frame(path: Path, points: npt.NDArray[np.float64], shapes: Shapes) -> Frame:
    """A grid along the axes, about the middle of points in mm, with the margin of the options.

    Raises:
        DataError: no-voxel-size, too-large.
    """
    if shapes.voxel is None:
        fix = "state it: shapes: {voxel: 1.5}"
        raise bad_file(path, "a shape has no grid, and no voxel size is stated", "no-voxel-size", fix)
    low, high = points.min(0) - shapes.margin, points.max(0) + shapes.margin
    counts = [max(2, math.ceil(side / shapes.voxel)) for side in high - low]
    if math.prod(counts) > MOST_VOXELS:
        raise bad_file(path, f"it would have {counts} voxels", "too-large", "state a larger shapes.voxel")
    affine = np.diag([shapes.voxel, shapes.voxel, shapes.voxel, 1.0])
    affine[:3, 3] = (low + high) / 2 - shapes.voxel * (np.array(counts) - 1) / 2
    return Frame(affine, (counts[0], counts[1], counts[2]))


def check_inside(path: Path, frame: Frame, index: npt.NDArray[np.float64], slack: float) -> None:
    """Finds points that lie outside the grid.

    Args:
        path: of the file, for the error.
        frame: of the image.
        index: of the points `[n, 3]`, in voxels.
        slack: voxels beyond the border of the outermost ones that still pass.

    Raises:
        DataError: outside-image.
    """
    low, high = -0.5 - slack, np.array(frame.shape) - 0.5 + slack
    beyond = np.maximum(np.maximum(low - index, index - high), 0)
    outside = beyond.max(1) > 0
    if outside.any():
        far = float(np.linalg.norm(beyond @ frame.affine[:3, :3].T, axis=1).max())
        what = f"{outside.sum()} of its {len(index)} points lie outside the image, up to {far:.1f} mm"
        fix = "check shapes.space (RAS or LPS) and shapes.unit, or cut it to the image"
        raise bad_file(path, what, "outside-image", fix)
