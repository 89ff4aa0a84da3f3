"""Readers: one file format each. What they give is numbers on a grid; what the numbers mean is told elsewhere.

A reader is a module of this folder with `reads(path) -> bool`, `read_volume(path, like) -> Volume` and
`grid(path) -> (shape, affine)`, which reads no voxels. Those of shapes take `Shapes` as well, and may have a
`read_ids(path, like, shapes)` where a label is not what an image is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.readers import dicom, mesh, nifti, occupancy, point_cloud, signed_distance
from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.types import Grid, Volume, bad_file

SCANS: tuple[Any, ...] = (nifti, dicom)
SHAPES: tuple[Any, ...] = (mesh, point_cloud, occupancy, signed_distance)


def read_volume(path: Path, like: Grid | None = None, shapes: Shapes | None = None) -> Volume:
    """Numbers of a file in canonical RAS+ order.

    Args:
        path: of a file, or of a folder of files that are one volume.
        like: grid that a shape without one (a mesh, points) is brought to.
        shapes: how shapes lie in space.

    Raises:
        DataError: no reader takes it (not-nifti), or the reader's own.
    """
    reader = _reader(path)
    if reader in SCANS:
        return reader.read_volume(path, like)
    return reader.read_volume(path, like, shapes or Shapes())


def read_ids(path: Path, like: Grid | None = None, shapes: Shapes | None = None) -> Volume:
    """Numbers of a file that stand for organs: 1 inside a shape, 0 outside.

    Raises:
        DataError: likewise.
    """
    reader = _reader(path)
    if hasattr(reader, "read_ids"):
        return reader.read_ids(path, like, shapes or Shapes())
    return read_volume(path, like, shapes)


def grid(path: Path, shapes: Shapes | None = None) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """Voxels per axis and affine, no voxel decompressed.

    Raises:
        DataError: likewise.
    """
    reader = _reader(path)
    return reader.grid(path) if reader in SCANS else reader.grid(path, shapes or Shapes())


def _reader(path: Path) -> Any:
    for reader in (*SCANS, *SHAPES):
        if reader.reads(path):
            return reader
    fix = "convert it to .nii.gz"
    if path.suffix.lower() in (".dcm", ".ima"):
        fix = "give the folder of the series; convert a DICOM segmentation to .nii.gz (dcmqi, highdicom)"
    raise bad_file(path, "no reader takes it, by its name", "not-nifti", fix)
