"""From the numbers of a file to int16 voxels: HU for CT, a scale of its own for what is no CT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.readers import read_volume
from lifelong_ct.data.types import Grid, RawCase, Volume, bad_file

AIR = -1024
LEAST_RANGE = 500
"""HU between the darkest and the brightest voxel of a CT scan, at least: windowed or normalised pictures have
less."""


def read_image(paths: Path | Sequence[Path], modality: str = "CT") -> RawCase:
    """A scan as int16, one channel `[D, H, W]` or several `[C, D, H, W]` on the grid of the first.

    Raises:
        DataError: as the reader of the file; or non-finite, implausible-hu; shape-mismatch or
            geometry-mismatch where channels lie on different grids.
    """
    files = list(paths) if isinstance(paths, Sequence) else [paths]
    first = read_volume(files[0])
    channels = [to_int16(files[0], first, modality)]
    for path in files[1:]:
        volume = read_volume(path, first)
        same_grid(path, volume, first)
        channels.append(to_int16(path, volume, modality))
    image = channels[0] if len(files) == 1 else np.stack(channels)
    return RawCase(
        image,
        None,
        first.affine,
        (),
        original_affine=first.original_affine,
        original_shape=first.original_shape,
    )


def to_int16(path: Path, volume: Volume, modality: str) -> npt.NDArray[np.int16]:
    """One channel as int16 HU; padding below air becomes air.

    Raises:
        DataError: non-finite, implausible-hu.
    """
    voxels = volume.voxels
    if not np.isfinite(voxels).all():
        raise bad_file(
            path, "it has voxels that are no numbers (NaN or infinite)", "non-finite", "export it again"
        )
    if modality == "CT":
        low, high = float(voxels.min()), float(voxels.max())
        if high - low < LEAST_RANGE:
            raise bad_file(
                path,
                f"its values reach from {low:g} to {high:g}, a CT scan in HU from about -1000 to over 500",
                "implausible-hu",
                "export it in HU, neither windowed nor normalised",
            )
        voxels = np.clip(voxels, AIR, np.iinfo(np.int16).max)
    return np.ascontiguousarray(np.rint(voxels)).astype(np.int16)


def same_grid(path: Path, volume: Volume, first: Grid) -> None:
    """Checks that a label map or a further channel lies on the grid of the image.

    Raises:
        DataError: shape-mismatch or geometry-mismatch.
    """
    grid = first.shape
    if volume.shape != grid:
        raise bad_file(
            path,
            f"its shape is {volume.shape}, that of its image {grid}",
            "shape-mismatch",
            "resample it to the image",
        )
    corners = np.array([[d, h, w, 1] for d in (0, grid[0]) for h in (0, grid[1]) for w in (0, grid[2])]).T
    apart = np.abs((volume.affine - first.affine) @ corners).max()
    if apart > 0.25 * min(np.linalg.norm(first.affine[:3, :3], axis=0)):
        raise bad_file(
            path,
            f"its affine lies {apart:.1f} mm from that of its image",
            "geometry-mismatch",
            "give it the same geometry as the image",
        )
