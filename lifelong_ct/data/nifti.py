"""Strict reading of NIfTI: what is not certainly a CT scan with a certain geometry is refused, with a reason."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.types import RawCase

AIR = -1024
LEAST_RANGE = 500
"""HU between the darkest and the brightest voxel of a CT scan, at least: windowed or normalised pictures have
less."""
LEAST_VOXELS = 2
MOST_BYTES = 16 << 30
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Volume:
    """Voxels of one file in canonical RAS+ order.

    Attributes:
        voxels: `[D, H, W]`, scaled by the file's own slope and intercept.
        affine: float64 `[4, 4]`, voxel index → mm.
        original_affine: of the file.
        original_shape: of the file.
    """

    voxels: npt.NDArray[np.generic]
    affine: npt.NDArray[np.float64]
    original_affine: npt.NDArray[np.float64]
    original_shape: tuple[int, ...]


def read_image(path: Path, modality: str = "CT") -> RawCase:
    """A scan as int16 HU; padding below air becomes air.

    Raises:
        DataError: with a code: missing, not-nifti, corrupt, not-scalar, not-3d, too-thin, no-geometry,
            geometry-conflict, sheared, non-finite, implausible-hu.
    """
    volume = read_volume(path)
    voxels = volume.voxels
    if not np.isfinite(voxels).all():
        raise _bad(
            path, "it has voxels that are no numbers (NaN or infinite)", "non-finite", "export it again"
        )
    if modality == "CT":
        low, high = float(voxels.min()), float(voxels.max())
        if high - low < LEAST_RANGE:
            raise _bad(
                path,
                f"its values reach from {low:g} to {high:g}, a CT scan in HU from about -1000 to over 500",
                "implausible-hu",
                "export it in HU, neither windowed nor normalised",
            )
        voxels = np.clip(voxels, AIR, np.iinfo(np.int16).max)
    image = np.ascontiguousarray(np.rint(voxels)).astype(np.int16)
    return RawCase(image, None, volume.affine, (), volume.original_affine, volume.original_shape)


def read_label(path: Path) -> Volume:
    """A label map with whole, non-negative ids.

    Raises:
        DataError: as `read_image`, or fractional-label, unknown-label.
    """
    volume = read_volume(path)
    voxels = np.asarray(volume.voxels)
    whole = np.rint(voxels)
    if not np.isfinite(voxels).all() or (whole != voxels).any():
        raise _bad(
            path, "its values are not whole", "fractional-label", "resample labels with nearest neighbour"
        )
    if whole.min() < 0 or float(whole.max()) > np.iinfo(np.uint16).max:
        raise _bad(
            path,
            f"its ids reach from {int(whole.min())} to {int(whole.max())}",
            "unknown-label",
            "use ids from 0 to 65535 and declare them",
        )
    ids = whole.astype(np.uint16)
    return Volume(ids, volume.affine, volume.original_affine, volume.original_shape)


def read_volume(path: Path) -> Volume:
    """Voxels and geometry of a `.nii` or `.nii.gz`, checked to the last byte.

    Raises:
        DataError: see `read_image`.
    """
    data = _decompressed(path)
    header = _header(path, data)
    shape = _shape(path, header)
    if header.get_data_dtype().kind not in "iuf":
        raise _bad(
            path, f"its voxels are {header.get_data_dtype()}", "not-scalar", "give one number per voxel"
        )
    expected = (
        int(header["vox_offset"])
        + int(np.prod(header.get_data_shape(), dtype=np.int64)) * int(header["bitpix"]) // 8
    )
    if expected > MOST_BYTES or len(data) < expected:
        raise _bad(
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
        raise _bad(
            path, f"its voxels cannot be read: {error}", "corrupt", "copy or export it again"
        ) from error
    turn = io_orientation(affine)
    return Volume(
        np.ascontiguousarray(apply_orientation(voxels, turn)),
        affine @ inv_ornt_aff(turn, shape),
        affine,
        tuple(header.get_data_shape()),
    )


def same_grid(path: Path, label: Volume, image: RawCase) -> None:
    """Checks that a label map lies on the grid of its image.

    Raises:
        DataError: shape-mismatch or geometry-mismatch.
    """
    grid = image.image.shape[-3:]
    if label.voxels.shape != grid:
        raise _bad(
            path,
            f"its shape is {label.voxels.shape}, that of its image {grid}",
            "shape-mismatch",
            "resample the labels to the image",
        )
    corners = np.array([[d, h, w, 1] for d in (0, grid[0]) for h in (0, grid[1]) for w in (0, grid[2])]).T
    apart = np.abs((label.affine - image.affine) @ corners).max()
    if apart > 0.25 * min(image.spacing):
        raise _bad(
            path,
            f"its affine lies {apart:.1f} mm from that of its image",
            "geometry-mismatch",
            "give labels and image the same geometry",
        )


def _decompressed(path: Path) -> bytes:
    if not path.name.endswith(_SUFFIXES):
        raise _bad(path, "it is no NIfTI by its name", "not-nifti", "convert it to .nii.gz")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _bad(path, f"it cannot be read: {error.strerror}", "missing", "check the path") from error
    if not path.name.endswith(".gz"):
        return raw
    try:
        return _streamed(path, raw)
    except (OSError, EOFError, zlib.error) as error:
        raise _bad(path, f"it is not whole: {error}", "corrupt", "copy it again from its source") from error


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
                    int(header["vox_offset"])
                    return header
                except (HeaderDataError, ValueError, OverflowError, KeyError) as error:
                    raise _bad(
                        path, f"its header is damaged: {error}", "corrupt", "export it again"
                    ) from error
    raise _bad(path, "it has no NIfTI header", "corrupt", "copy it again from its source")


def _shape(path: Path, header: nib.Nifti1Header) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise _bad(path, f"its shape is {shape}", "not-3d", "give one 3D volume per file")
    if min(shape) < LEAST_VOXELS:
        raise _bad(path, f"its shape is {shape}", "too-thin", "give a volume of several slices")
    return shape


def _affine(path: Path, header: nib.Nifti1Header) -> npt.NDArray[np.float64]:
    forms = []
    if int(header["sform_code"]) > 0:
        forms.append(np.asarray(header.get_sform(), np.float64))
    if int(header["qform_code"]) > 0:
        try:
            forms.append(np.asarray(header.get_qform(), np.float64))
        except (HeaderDataError, ValueError) as error:
            raise _bad(
                path, f"its qform is invalid: {error}", "geometry-conflict", "export it again"
            ) from error
    affine = forms[0] if forms else np.zeros((4, 4))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (spacing < 1e-3).any() or abs(np.linalg.det(affine)) < 1e-9:
        raise _bad(path, "it does not say how it lies in space", "no-geometry", "export it with its geometry")
    directions = affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-2:
        raise _bad(path, "its axes are not at right angles (gantry tilt?)", "sheared", "resample it upright")
    if len(forms) == 2:
        corner = np.array([*header.get_data_shape()[:3], 1.0])[:4]
        apart = max(np.abs((forms[0] - forms[1]) @ v).max() for v in (corner, np.array([0, 0, 0, 1.0])))
        if apart > 0.5 * spacing.min() or np.abs(forms[0] - forms[1])[:3, :3].max() > 1e-2 * spacing.max():
            raise _bad(
                path, "its sform and qform disagree", "geometry-conflict", "mend the one that is wrong"
            )
    return affine


def _bad(path: Path, what: str, code: str, fix: str) -> DataError:
    return DataError(what, str(path), fix, code)
