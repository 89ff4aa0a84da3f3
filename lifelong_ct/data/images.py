"""Scans as int16 voxels, one channel or several on one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.readers import read_volume
from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.scales import Scaled, each_modality, to_int16
from lifelong_ct.data.types import Grid, RawCase, Volume, bad_file

Watch = Callable[[npt.NDArray[np.generic], npt.NDArray[np.float64], str], None]
"""Shown the numbers of a scan's first channel as the file has them, in canonical order, affine and modality."""


def nobody(voxels: npt.NDArray[np.generic], affine: npt.NDArray[np.float64], modality: str) -> None:
    """A `Watch` that does not look."""


def read_image(
    paths: Path | Sequence[Path],
    modality: str = "CT",
    shapes: Shapes | None = None,
    watch: Watch = nobody,
) -> RawCase:
    """A scan as int16, one channel `[D, H, W]` or several `[C, D, H, W]` on the grid of the first.

    Args:
        paths: one per channel.
        modality: of all channels, or of each such as CT+MR; see `scales.MODALITIES`.
        shapes: how meshes, points and fields are read.
        watch: looks at the numbers before anything is said against them.

    Raises:
        DataError: as the reader of the file and `to_int16`; or modality; shape-mismatch or geometry-mismatch
            where channels lie on different grids.
    """
    files = list(paths) if isinstance(paths, Sequence) else [paths]
    kinds = each_modality(modality, len(files), str(files[0]))
    first = read_volume(files[0], shapes=shapes)
    watch(first.voxels, first.affine, kinds[0])
    channels = [_channel(files[0], first, kinds[0])]
    for path, kind in zip(files[1:], kinds[1:], strict=True):
        volume = read_volume(path, first, shapes)
        same_grid(path, volume, first)
        channels.append(_channel(path, volume, kind))
    voxels = [image for image, _ in channels]
    return RawCase(
        voxels[0] if len(files) == 1 else np.stack(voxels),
        None,
        first.affine,
        (),
        scales=() if set(kinds) == {"CT"} else tuple(scale for _, scale in channels),
        original_affine=first.original_affine,
        original_shape=first.original_shape,
    )


def _channel(path: Path, volume: Volume, modality: str) -> Scaled:
    if volume.modality not in (None, modality):
        what = f"its header says {volume.modality}, the case {modality}"
        raise bad_file(path, what, "modality", f"write modality: {volume.modality}, or take the file out")
    return to_int16(path, volume.voxels, modality)


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
