"""Strict reading of NIfTI: a file whose geometry or voxels are not certain is refused, with a reason."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError

from lifelong_ct.core.paths import head, read_bytes
from lifelong_ct.data.types import Grid, Volume, bad_file

LEAST_VOXELS = 2
MOST_BYTES = 16 << 30
HEAD = 1 << 14
"""Compressed bytes that hold a header for sure."""
SUFFIXES = (".nii", ".nii.gz")
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


def reads(path: Path) -> bool:
    """Whether it is NIfTI by its name."""
    return path.name.endswith(SUFFIXES)


def grid(path: Path) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """Voxels per axis and affine, from the header.

    Raises:
        DataError: missing, corrupt, not-3d, too-thin, or a geometry that cannot be trusted.
    """
    try:
        data = head(path, HEAD)
        if path.name.endswith(".gz"):
            data = zlib.decompressobj(wbits=31).decompress(data, 544)
    except (OSError, zlib.error) as error:
        raise bad_file(path, f"its header cannot be read: {error}", "corrupt", "copy it again") from error
    header = _header(path, data)
    return _shape(path, header), _affine(path, header)


def read_volume(path: Path, like: Grid | None = None) -> Volume:
    """Voxels and geometry of a `.nii` or `.nii.gz`, checked to the last byte; `like` has no part in it.

    Raises:
        DataError: with a code: missing, not-nifti, corrupt, not-scalar, not-3d, too-thin, no-geometry,
            geometry-conflict, sheared.
    """
    data = _decompressed(path)
    header = _header(path, data)
    shape = _shape(path, header)
    if header.get_data_dtype().kind not in "iuf":
        raise bad_file(
            path, f"its voxels are {header.get_data_dtype()}", "not-scalar", "give one number per voxel"
        )
    expected = (
        int(header["vox_offset"])
        + int(np.prod(header.get_data_shape(), dtype=np.int64)) * int(header["bitpix"]) // 8
    )
    if expected > MOST_BYTES or len(data) < expected:
        raise bad_file(
            path,
            f"it has {len(data)} bytes where its header announces {expected}",
            "corrupt",
            "copy it again",
        )
    affine = _affine(path, header)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    try:
        voxels = np.asarray(kind.from_bytes(data).dataobj).reshape(shape)
    except (HeaderDataError, OSError, ValueError) as error:
        raise bad_file(
            path, f"its voxels cannot be read: {error}", "corrupt", "copy or export it again"
        ) from error
    turn = io_orientation(affine)
    return Volume(
        np.ascontiguousarray(apply_orientation(voxels, turn)),
        affine @ inv_ornt_aff(turn, shape),
        affine,
        tuple(header.get_data_shape()),
    )


def _decompressed(path: Path) -> bytes:
    try:
        raw = read_bytes(path)
    except OSError as error:
        what = f"it cannot be read: {error.strerror or error}"
        raise bad_file(path, what, "missing", "check the path") from error
    if not path.name.endswith(".gz"):
        return raw
    try:
        return _streamed(path, raw)
    except (OSError, EOFError, zlib.error) as error:
        raise bad_file(
            path, f"it is not whole: {error}", "corrupt", "copy it again from its source"
        ) from error


def _streamed(path: Path, raw: bytes) -> bytes:
    """Decompresses up to what the header announces, so that a bomb does not fill the memory."""
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
        head = file.read(544)
        header = _header(path, head)
        voxels = int(np.prod(header.get_data_shape(), dtype=np.int64))
        announced = int(header["vox_offset"]) + voxels * int(header["bitpix"]) // 8
        rest = file.read(max(0, min(announced, MOST_BYTES) - len(head)))
        if file.read(1 << 20) and file.read(1):
            raise OSError("there is more than its header announces")
    return head + rest


def _header(path: Path, data: bytes) -> nib.Nifti1Header:
    for size, kind in _HEADERS.items():
        for order in ("<", ">"):
            if len(data) >= size and int.from_bytes(data[:4], "little" if order == "<" else "big") == size:
                try:
                    header = kind(data[:size], endianness=order, check=True)
                    header.get_data_dtype()
                    header.get_slope_inter()
                    return header
                except (HeaderDataError, ValueError, KeyError) as error:
                    raise bad_file(
                        path, f"its header is damaged: {error}", "corrupt", "export it again"
                    ) from error
    raise bad_file(path, "it has no NIfTI header", "corrupt", "copy it again from its source")


def _shape(path: Path, header: nib.Nifti1Header) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise bad_file(path, f"its shape is {shape}", "not-3d", "give one 3D volume per file")
    if min(shape) < LEAST_VOXELS:
        raise bad_file(path, f"its shape is {shape}", "too-thin", "give a volume of several slices")
    return shape


def _affine(path: Path, header: nib.Nifti1Header) -> npt.NDArray[np.float64]:
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
    affine = forms[0] if forms else np.zeros((4, 4))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (spacing < 1e-3).any() or abs(np.linalg.det(affine)) < 1e-9:
        raise bad_file(
            path, "it does not say how it lies in space", "no-geometry", "export it with its geometry"
        )
    directions = affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-2:
        raise bad_file(
            path, "its axes are not at right angles (gantry tilt?)", "sheared", "resample it upright"
        )
    if len(forms) == 2:
        corner = np.array([*header.get_data_shape()[:3], 1.0])[:4]
        apart = max(np.abs((forms[0] - forms[1]) @ v).max() for v in (corner, np.array([0, 0, 0, 1.0])))
        if apart > 0.5 * spacing.min() or np.abs(forms[0] - forms[1])[:3, :3].max() > 1e-2 * spacing.max():
            raise bad_file(
                path, "its sform and qform disagree", "geometry-conflict", "mend the one that is wrong"
            )
    return affine
