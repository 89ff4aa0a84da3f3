"""Readers: one file format each. What they give is numbers on a grid; what the numbers mean is told elsewhere.

A reader is a module of this folder with `reads(path) -> bool`, `read_volume(path, like) -> Volume` and
`grid(path) -> (shape, affine)`, which reads the header only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.readers import nifti
from lifelong_ct.data.types import Grid, Volume, bad_file

READERS: tuple[Any, ...] = (nifti,)


def read_volume(path: Path, like: Grid | None = None) -> Volume:
    """Numbers of a file in canonical RAS+ order.

    Args:
        path: of a file, or of a folder of files that are one volume.
        like: grid that a shape without one (a mesh, points) is brought to.

    Raises:
        DataError: no reader takes it (not-a-volume), or the reader's own.
    """
    return _reader(path).read_volume(path, like)


def grid(path: Path) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """Voxels per axis and affine as the header says, nothing decompressed.

    Raises:
        DataError: likewise.
    """
    return _reader(path).grid(path)


def _reader(path: Path) -> Any:
    for reader in READERS:
        if reader.reads(path):
            return reader
    raise bad_file(path, "no reader takes it, by its name", "not-nifti", "convert it to .nii.gz")
