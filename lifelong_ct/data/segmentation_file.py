"""A label map beside its scan: the same grid, the same place in space, nothing else of the scan's header."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from lifelong_ct.core.files import write_bytes
from lifelong_ct.data.readers import nifti
from lifelong_ct.data.types import RawCase

_CANONICAL = axcodes2ornt(("R", "A", "S"))
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
_SCANNER = 1
"""NIfTI's code of scanner coordinates, which DICOM's are."""
_LEVEL = 4
"""Of gzip: label maps hardly get smaller beyond it."""


def in_file_order(labels: npt.NDArray[np.uint8], raw: RawCase) -> npt.NDArray[np.uint8]:
    """Canonical labels `[D, H, W]` with the axes of the scan's file, whose shape they get. No voxel is made or lost."""
    if raw.original_affine is None or raw.original_shape is None:
        return labels
    turn = ornt_transform(_CANONICAL, io_orientation(raw.original_affine))
    return apply_orientation(labels, turn).reshape(raw.original_shape)


def write_labels(path: Path, labels: npt.NDArray[np.uint8], raw: RawCase, scan: Path) -> None:
    """Writes a NIfTI in the geometry of its scan.

    Shape, orientation, spacing, units, and qform and sform with their codes are, to the bit, those of a NIfTI scan; of
    DICOM both forms are the affine of the series, in scanner coordinates. Voxels are uint8, the smallest type that holds
    every channel id (at most 159), without a slope. Descriptions and extensions, which may name a patient, stay behind.

    Args:
        path: ends with .nii.gz; replaced atomically, equal bytes for equal labels.
        labels: `[D, H, W]`, on the grid of `raw`.
        raw: the scan.
        scan: its file, or its folder.
    """
    voxels = np.asarray(in_file_order(labels, raw), np.uint8)
    image = _like(voxels, scan) if nifti.reads(scan) else _of_affine(voxels, raw)
    write_bytes(path, gzip.compress(image.to_bytes(), _LEVEL, mtime=0))


def _like(voxels: npt.NDArray[np.uint8], scan: Path) -> Any:
    found: Any = nib.load(scan)
    kind = nib.Nifti2Image if isinstance(found.header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(voxels, None)
    image.header.set_data_dtype(np.uint8)
    for field in _GEOMETRY:  # after the shape is set, which would reset some of them
        image.header[field] = found.header[field]
    return image


def _of_affine(voxels: npt.NDArray[np.uint8], raw: RawCase) -> Any:
    affine = raw.affine if raw.original_affine is None else raw.original_affine
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, _SCANNER)
    image.set_qform(affine, _SCANNER)
    image.header.set_xyzt_units("mm")
    image.header.set_data_dtype(np.uint8)
    return image
