"""One file of a DICOM series: what its header says, and why it may be no slice of a scan."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.types import bad_file

_TAGS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "GantryDetectorTilt"),
    *("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("SOPClassUID", "SeriesInstanceUID", "ImageType", "Modality", "PixelRepresentation"),
)
_NOT_HU = ("OD", "MGML", "Z_EFF", "ED", "EDW", "PCT")
"""Rescale types (DICOM PS3.3 C.11.1.1.2) that are no attenuation."""


@dataclass(frozen=True)
class Slice:
    """One image of a series.

    Attributes:
        path: its file.
        series: of which it is, as its UID says.
        modality: CT, MR, …
        size: rows, columns.
        spacing: mm between rows, between columns.
        directions: of a row and of a column, `[2, 3]`, LPS.
        position: middle of the first pixel in mm, LPS.
        tilt: of the gantry in degrees, as the header says.
        rescale: slope and intercept; (1, 0) where the header has none.
        padding: lowest and highest stored value that is no measurement; None without.
        bits: allocated per pixel.
        syntax: transfer syntax, a pydicom UID; None where the file does not say.
    """

    path: Path
    series: str
    modality: str
    size: tuple[int, int]
    spacing: tuple[float, float]
    directions: npt.NDArray[np.float64]
    position: npt.NDArray[np.float64]
    tilt: float
    rescale: tuple[float, float]
    padding: tuple[int, int] | None
    bits: int
    syntax: Any

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Across the slice, LPS."""
        return np.cross(self.directions[0], self.directions[1])


def header(path: Path, tags: Sequence[str]) -> Any:
    """A pydicom data set of some elements, without pixels; its `file_meta` names the transfer syntax.

    Raises:
        DataError: corrupt.
    """
    import pydicom

    hush()
    try:
        found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
        for tag in tags:
            getattr(found, tag, None)  # a value is parsed when it is asked for
    except Exception as error:  # the parser meets any bytes here: whatever it stumbles over, the file is bad
        raise _corrupt(path, error) from error
    return found


def hush() -> None:
    """Silences what pydicom says while it reads: it quotes values, names of patients among them."""
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def read_slice(path: Path) -> Slice:
    """The header of one file, checked.

    Raises:
        DataError: corrupt, not-an-image, localizer, multi-frame, not-scalar, no-geometry, rescale.
    """
    found = header(path, _TAGS)
    try:
        _check_kind(path, found)
        directions, position, spacing = _geometry(path, found)
        return Slice(
            path=path,
            series=str(found.get("SeriesInstanceUID", "")),
            modality=str(found.get("Modality", "")),
            size=(int(found.Rows), int(found.Columns)),
            spacing=spacing,
            directions=directions,
            position=position,
            tilt=float(found.get("GantryDetectorTilt") or 0),
            rescale=_rescale(path, found),
            padding=_padding(found),
            bits=int(found.BitsAllocated),
            syntax=getattr(found.file_meta, "TransferSyntaxUID", None),
        )
    except (AttributeError, TypeError, ValueError, OverflowError) as error:  # several values for one, text
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> DataError:
    return bad_file(path, f"its header cannot be read ({type(error).__name__})", "corrupt", "export it again")


def _check_kind(path: Path, found: Any) -> None:
    kind = getattr(found.get("SOPClassUID"), "name", "")
    frames = int(found.get("NumberOfFrames") or 1)
    flavour = [str(v).upper() for v in np.atleast_1d(found.get("ImageType") or [])]
    colour = str(found.get("PhotometricInterpretation", "MONOCHROME2"))
    if not found.get("Rows") or not found.get("Columns"):
        if not kind or "Image Storage" in kind:
            raise bad_file(path, "its header has no rows or columns", "corrupt", "copy it again")
        raise bad_file(path, f"it is no image: {kind}", "not-an-image", "keep it in another folder")
    if "Segmentation" in kind:
        raise bad_file(path, f"it is no scan: {kind}", "not-an-image", "convert it to .nii.gz")
    if frames > 1 or "MOSAIC" in flavour:
        what = f"it has {frames if frames > 1 else 'several'} frames in one file ({kind})"
        raise bad_file(path, what, "multi-frame", "convert it to single slices or to .nii.gz")
    if "LOCALIZER" in flavour:
        raise bad_file(path, "it is a localizer (scout)", "localizer", "keep it in another folder")
    if int(found.get("SamplesPerPixel") or 1) != 1 or not colour.startswith("MONOCHROME"):
        raise bad_file(path, f"its pixels are {colour}", "not-scalar", "give one number per pixel")
    if int(found.BitsAllocated) not in (8, 16):
        raise bad_file(path, f"its pixels have {found.BitsAllocated} bits", "not-scalar", "give 8 or 16 bits")


def _geometry(path: Path, found: Any) -> tuple[Any, Any, tuple[float, float]]:
    try:
        directions = np.array([float(v) for v in found.ImageOrientationPatient]).reshape(2, 3)
        position = np.array([float(v) for v in found.ImagePositionPatient]).reshape(3)
        rows, columns = (float(v) for v in found.PixelSpacing)
    except (AttributeError, TypeError, ValueError) as error:
        raise _no_geometry(path, "its position, orientation or pixel spacing is missing") from error
    crooked = not np.abs(directions @ directions.T - np.eye(2)).max() <= 1e-2
    if crooked or not np.isfinite([*position, rows, columns]).all() or min(rows, columns) < 1e-3:
        raise _no_geometry(path, "its position, orientation or pixel spacing is impossible")
    return directions, position, (rows, columns)


def _no_geometry(path: Path, what: str) -> DataError:
    return bad_file(path, what, "no-geometry", "export the series with its geometry")


def _rescale(path: Path, found: Any) -> tuple[float, float]:
    is_ct = found.get("Modality") == "CT"
    values = {name: found.get(f"Rescale{name.title()}") for name in ("slope", "intercept")}
    lacking = [name for name, value in values.items() if value in (None, "")]
    scale = str(found.get("RescaleType") or "").upper()
    if len(lacking) == 1 or (is_ct and lacking):
        raise _bad_rescale(
            path, f"it has no rescale {' and no rescale '.join(lacking)}: its values are no HU"
        )
    if is_ct and scale in _NOT_HU:
        raise _bad_rescale(path, f"its rescale type is {scale}: its values are no HU")
    if lacking:
        return 1.0, 0.0
    slope, intercept = (float(value) for value in values.values())
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise _bad_rescale(path, f"its rescale slope and intercept are {slope:g} and {intercept:g}")
    return slope, intercept


def _bad_rescale(path: Path, what: str) -> DataError:
    return bad_file(path, what, "rescale", "export it again from its source")


def _padding(found: Any) -> tuple[int, int] | None:
    value, limit = found.get("PixelPaddingValue"), found.get("PixelPaddingRangeLimit")
    if value is None:
        return None
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return low, high
