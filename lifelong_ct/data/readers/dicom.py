"""Strict reading of a folder of DICOM slices.

By pydicom: it reads headers without pixels and leaves every check to us, where SimpleITK's series reader only
warns of gaps and uneven steps.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.readers.dicom_series import Series, read_series
from lifelong_ct.data.readers.dicom_slice import Slice, hush
from lifelong_ct.data.readers.turned import canonical
from lifelong_ct.data.types import Grid, Volume, bad_file

MOST_BYTES = 16 << 30
AIR = -1024.0


def reads(path: Path) -> bool:
    """Whether it is a folder."""
    return path.is_dir()


def grid(path: Path) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """Columns, rows, slices and the affine, from the headers.

    Raises:
        DataError: as `read_series`.
    """
    series = read_series(path)
    return series.shape, series.affine


def read_volume(path: Path, like: Grid | None = None) -> Volume:
    """Numbers of a series after its rescale, float32; `like` has no part in it.

    Pixels of the declared padding value become air in CT, 0 in what is no CT.

    Raises:
        DataError: as `read_series`; or compressed, corrupt, too-large, rescale.
    """
    series = read_series(path)
    columns, rows, count = series.shape
    if 4 * columns * rows * count > MOST_BYTES:
        what = f"it announces {count} slices of {rows} × {columns}"
        raise bad_file(path, what, "too-large", "crop it")
    _check_pixels(series)
    voxels = np.empty((count, rows, columns), np.float32)
    lowest = min(_fill(out, part) for part, out in zip(series.slices, voxels, strict=True))
    modality = series.slices[0].modality
    if modality == "CT" and lowest >= 0:
        what = f"its lowest value is {lowest:g}, air has -1000: its rescale is not that to HU"
        raise bad_file(path, what, "rescale", "export it again from its source")
    volume = canonical(voxels.transpose(2, 1, 0), series.affine, series.shape)
    return replace(volume, modality=modality or None)


def _check_pixels(series: Series) -> None:
    """Before anything is allocated: whether each file is long enough, and can be decoded."""
    from pydicom.pixels import get_decoder

    for part in series.slices:
        if part.syntax is None:
            raise bad_file(part.path, "it names no transfer syntax", "corrupt", "export it again")
        try:
            packed = part.syntax.is_compressed or part.syntax.is_deflated
            known = not packed or get_decoder(part.syntax).is_available
        except (NotImplementedError, ValueError):  # no transfer syntax of images
            packed, known = True, False
        if not known:
            what = f"its pixels are compressed as {part.syntax.name}, which nothing here decodes"
            fix = "pip install 'lifelong-ct[dicom]', or decompress it (gdcmconv --raw, dcmdjpeg)"
            raise bad_file(part.path, what, "compressed", fix)
        if not packed and part.path.stat().st_size < part.size[0] * part.size[1] * part.bits // 8:
            raise bad_file(part.path, "it ends before its last pixel", "corrupt", "copy it again")


def _fill(out: npt.NDArray[np.float32], part: Slice) -> float:
    """The numbers of one slice; the lowest that is no padding."""
    from pydicom.pixels import pixel_array

    hush()
    try:
        stored = pixel_array(part.path)
    except Exception as error:  # decoders meet any bytes here
        what = f"its pixels cannot be read ({type(error).__name__})"
        raise bad_file(part.path, what, "corrupt", "copy it again") from error
    if stored.shape != out.shape:
        what = f"it has {stored.shape} pixels where its header says {out.shape}"
        raise bad_file(part.path, what, "corrupt", "copy it again")
    slope, intercept = part.rescale
    out[:] = stored * slope + intercept
    if part.padding is None:
        return float(out.min())
    padding = (stored >= part.padding[0]) & (stored <= part.padding[1])
    lowest = float(out.min(where=~padding, initial=np.inf))
    out[padding] = AIR if part.modality == "CT" else 0
    return lowest
