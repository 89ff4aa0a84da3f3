"""Small DICOM series, written slice by slice as a scanner would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

AXIAL = ((1, 0, 0), (0, 1, 0))
CORONAL = ((1, 0, 0), (0, 0, -1))
SAGITTAL = ((0, 1, 0), (0, 0, -1))
FEET_FIRST = ((-1, 0, 0), (0, 1, 0))
"""Directions of a row and of a column in LPS; feet first: the patient's right is the right of the picture."""


def tilted(degrees: float) -> tuple[Sequence[float], Sequence[float]]:
    """Axial slices turned about the left-right axis."""
    angle = np.radians(degrees)
    return (1, 0, 0), (0, float(np.cos(angle)), float(np.sin(angle)))


def write(
    folder: Path,
    stored: np.ndarray,
    directions: Sequence[Sequence[float]] = AXIAL,
    spacing: tuple[float, float] = (0.8, 0.7),
    step: float | Sequence[float] = 2.5,
    origin: Sequence[float] = (-100.0, -120.0, 40.0),
    **changes: Any,
) -> list[Path]:
    """Writes `stored` `[slices, rows, columns]`, slice k at `origin + k * step * normal`; names say nothing
    about the order. `changes` are elements of every slice; None removes one."""
    folder.mkdir(parents=True, exist_ok=True)
    row, column = (np.array(d, float) for d in directions)
    across = np.cross(row, column) * step if np.isscalar(step) else np.array(step, float)
    given = {"SeriesInstanceUID": generate_uid(entropy_srcs=[str(folder)]), **changes}
    paths = []
    for k, pixels in enumerate(stored):
        found = one(pixels, [*row, *column], np.array(origin) + k * across, spacing, k, given)
        paths.append(folder / f"{(k * 7919) % 1009:04d}.dcm")
        found.save_as(paths[-1], enforce_file_format=True)
    return paths


def one(
    pixels: np.ndarray, orientation: Any, position: Any, spacing: Any, number: int, changes: dict[str, Any]
) -> Dataset:
    """A CT image."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    signed = int(np.issubdtype(pixels.dtype, np.signedinteger))
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.3",
        "FrameOfReferenceUID": "1.2.4",
        "PatientID": "DOE-7",
        "PatientName": "Doe^Jane",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstanceNumber": number + 1,
        "ImagePositionPatient": _decimal(position),
        "ImageOrientationPatient": _decimal(orientation),
        "PixelSpacing": _decimal(spacing),
        "SliceThickness": 2.5,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelRepresentation": signed,
        "BitsAllocated": pixels.dtype.itemsize * 8,
        "BitsStored": pixels.dtype.itemsize * 8,
        "HighBit": pixels.dtype.itemsize * 8 - 1,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        **changes,
    }
    for name, value in values.items():
        if value is not None:
            setattr(found, name, value)
    found.PixelData = pixels.tobytes()
    return found


def _decimal(values: Any) -> list[DSfloat]:
    return [DSfloat(float(v), auto_format=True) for v in values]


def write_scan(folder: Path, image: np.ndarray, affine: np.ndarray, **changes: Any) -> list[Path]:
    """Writes int16 HU `[D, H, W]` in RAS+ as axial slices, head first."""
    flip = np.diag([-1.0, -1, 1, 1])
    flip[:2, 3] = np.array(image.shape[:2]) - 1  # to the left and back, as LPS counts
    placed = np.diag([-1.0, -1, 1, 1]) @ affine @ flip
    spacing = np.linalg.norm(placed[:3, :3], axis=0)
    stored = (image[::-1, ::-1].astype(np.int32) + 1024).transpose(2, 1, 0).astype(np.uint16)
    directions = [placed[:3, 0] / spacing[0], placed[:3, 1] / spacing[1]]
    return write(
        folder, stored, directions, (spacing[1], spacing[0]), placed[:3, 2].tolist(), placed[:3, 3], **changes
    )
