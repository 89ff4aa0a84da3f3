"""What a NIfTI header says, as far as it is certain; nothing behind it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from lifelong_ct.data.types import bad_file

LONGEST = 544
"""Bytes of the longest header, NIfTI-2."""
LEAST_VOXELS = 2
MOST_BYTES = 16 << 30
"""Of a volume, decompressed."""
SHORTEST_MM, LONGEST_MM = 1.0, 10_000.0
"""Bounds of the longest side of a volume; beyond them the numbers are metres or micrometres."""
_KINDS = {348: (nib.Nifti1Header, b"n+1", 352), 540: (nib.Nifti2Header, b"n+2", 544)}
_UNITS = {1: "metres", 3: "micrometres"}


@dataclass(frozen=True)
class Header:
    """Of one volume.

    Attributes:
        shape: voxels per axis, as in the file.
        original_shape: with the axes of one voxel behind them.
        dtype: of the numbers on disk, byte order included.
        offset: bytes before them.
        slope, intercept: number × slope + intercept is meant; (1, 0) where the file names none.
        affine: float64 `[4, 4]`, voxel index → mm.
    """

    shape: tuple[int, int, int]
    original_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: npt.NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Of the whole file, decompressed, as the header announces."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def parse(path: Path, data: bytes) -> Header:
    """Reads the first `LONGEST` bytes of a file.

    Raises:
        DataError: corrupt, not-nifti, not-scalar, not-3d, too-thin, too-large, no-geometry, wrong-units,
            geometry-conflict, sheared.
    """
    with np.errstate(all="ignore"):  # what overflows is refused as not finite
        header, offset = _header(path, data)
        shape = _shape(path, header)
        dtype = header.get_data_dtype()
        if dtype.kind not in "iuf":
            raise bad_file(path, f"its voxels are {dtype}", "not-scalar", "give one number per voxel")
        announced = math.prod(shape) * dtype.itemsize
        if announced > MOST_BYTES:
            what = f"its header announces {announced} bytes"
            raise bad_file(path, what, "too-large", "crop it, or save it in a smaller type")
        slope, intercept = header.get_slope_inter()
        affine = _affine(path, header, shape)
    original = tuple(int(n) for n in header.get_data_shape())
    scale = (1.0, 0.0) if slope is None else (float(slope), float(intercept))
    return Header(shape, original, dtype, offset, *scale, affine)


def _header(path: Path, data: bytes) -> tuple[nib.Nifti1Header, int]:
    for size, (kind, magic, least) in _KINDS.items():
        for order, name in (("<", "little"), (">", "big")):
            if len(data) < size or int.from_bytes(data[:4], name) != size:  # type: ignore[arg-type]
                continue
            try:
                raw = kind(data[:size], endianness=order, check=False)
                _check_raw(path, raw, magic, least)
                header = kind(data[:size], endianness=order, check=True)
                header.get_data_dtype()
                header.get_slope_inter()
                return header, int(raw["vox_offset"])
            except (HeaderDataError, ValueError, KeyError, OverflowError) as error:
                what = f"its header is damaged: {error}"
                raise bad_file(path, what, "corrupt", "export it again") from error
    raise bad_file(path, "it has no NIfTI header", "corrupt", "copy it again from its source")


def _check_raw(path: Path, raw: nib.Nifti1Header, magic: bytes, least: int) -> None:
    """What nibabel would mend by a guess, or not look at."""
    found = bytes(raw["magic"].tobytes())[:3]
    if found != magic:
        pair = found in (b"ni1", b"ni2")
        what = "it is the header of a .hdr/.img pair" if pair else f"its magic is {found!r}"
        raise bad_file(path, what, "not-nifti", "save it as a .nii.gz")
    offset = float(raw["vox_offset"])
    if not math.isfinite(offset) or offset != int(offset) or offset < least:
        what = f"its voxels begin at byte {offset:g}, the header ends at {least}"
        raise bad_file(path, what, "corrupt", "export it again")
    if not 1 <= int(raw["dim"][0]) <= 7:
        raise bad_file(path, f"it has {int(raw['dim'][0])} axes", "corrupt", "export it again")
    spacing = np.asarray(raw["pixdim"], np.float64)[1:4]
    if not np.isfinite(spacing).all() or (int(raw["qform_code"]) > 0 and (spacing == 0).any()):
        told = " x ".join(f"{s:g}" for s in spacing)
        raise bad_file(path, f"its voxel size is {told}", "no-geometry", "export it with its geometry")
    unit = int(raw["xyzt_units"]) & 7
    if unit in _UNITS:
        what = f"its header counts in {_UNITS[unit]}"
        raise bad_file(path, what, "wrong-units", "export it in mm, the header too")


def _shape(path: Path, header: nib.Nifti1Header) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise bad_file(path, f"its shape is {shape}", "not-3d", "give one 3D volume per file")
    if min(shape) < LEAST_VOXELS:
        raise bad_file(path, f"its shape is {shape}", "too-thin", "give a volume of several slices")
    return shape


def _affine(path: Path, header: nib.Nifti1Header, shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    forms = _forms(path, header)
    affine = forms[0] if forms else np.zeros((4, 4))
    finite = all(np.isfinite(form).all() for form in forms)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not finite or (spacing < 1e-6).any() or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise bad_file(
            path, "it does not say how it lies in space", "no-geometry", "export it with its geometry"
        )
    directions = affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-2:
        raise bad_file(
            path, "its axes are not at right angles (gantry tilt?)", "sheared", "resample it upright"
        )
    longest = float((spacing * shape).max())
    if not SHORTEST_MM <= longest <= LONGEST_MM:
        what = f"its longest side is {longest:.3g} mm: its geometry is not in mm"
        raise bad_file(path, what, "wrong-units", "export it in mm")
    if len(forms) == 2:
        corner = np.array([*shape, 1.0])
        apart = max(np.abs((forms[0] - forms[1]) @ v).max() for v in (corner, np.array([0, 0, 0, 1.0])))
        if apart > 0.5 * spacing.min() or np.abs(forms[0] - forms[1])[:3, :3].max() > 1e-2 * spacing.max():
            raise bad_file(
                path, "its sform and qform disagree", "geometry-conflict", "mend the one that is wrong"
            )
    return affine


def _forms(path: Path, header: nib.Nifti1Header) -> list[npt.NDArray[np.float64]]:
    """The sform and the qform, as far as they are in use."""
    forms = []
    if int(header["sform_code"]) > 0:
        forms.append(np.asarray(header.get_sform(), np.float64))
    if int(header["qform_code"]) > 0:
        try:
            forms.append(np.asarray(header.get_qform(), np.float64))
        except (HeaderDataError, ValueError) as error:
            raise bad_file(
                path, f"its qform is invalid: {error}", "geometry-conflict", "export it again"
            ) from error
    return forms
