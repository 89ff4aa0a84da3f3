"""From a scan's own grid to the one that a model sees, and back with the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.resampling import nearest, new_shape, prepare
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.inference import PAD_HU

UPRIGHT = 5.0
"""Degrees that the axes of a scan may be turned against the body's before it is set upright."""


def to_model(raw: RawCase, spacing: Sequence[float] | None) -> RawCase:
    """The image as a model sees it, on its spacing: `prepare`, as in training. An oblique scan, turned by more than
    `UPRIGHT`, is set upright too, so that organs lie as the model knows them: linear interpolation on the box around the
    scan, with air beyond it.

    Args:
        raw: the scan on its own grid, in canonical order.
        spacing: mm per axis; that of the scan where None.

    Returns:
        image and affine; without its label where it was set upright.
    """
    directions, shape = _directions(raw.affine), upright_shape(raw.shape, raw.affine, spacing)
    if not _oblique(directions):
        return prepare(raw, spacing)
    own, mm = np.round(raw.spacing, 6), np.round(spacing or raw.spacing, 6)
    index = np.diag(1 / own) @ directions.T @ np.diag(mm)  # of the scan, by that of the box
    offset = (np.array(raw.shape) - 1) / 2 - index @ ((np.array(shape) - 1) / 2)  # their middles meet
    image = np.empty((*raw.image.shape[:-3], *shape), np.int16)
    channels = zip(raw.image.reshape(-1, *raw.shape), image.reshape(-1, *shape), strict=True)
    for channel, out in channels:
        _linear(channel, index, offset, out)
    place = np.eye(4)
    place[:3, :3], place[:3, 3] = index, offset
    return replace(raw, image=image, label=None, affine=raw.affine @ place)


def upright_shape(
    shape: Sequence[int], affine: npt.NDArray[np.float64], spacing: Sequence[float] | None
) -> tuple[int, int, int]:
    """Voxels per axis of what `to_model` makes of a scan: of an oblique one it can be several times as many.

    Args:
        shape: of the scan, in canonical order.
        affine: `[4, 4]`, voxel index → mm.
        spacing: mm per axis; that of the scan where None.
    """
    own = np.linalg.norm(affine[:3, :3], axis=0)
    directions = _directions(affine)
    if not _oblique(directions):
        d, h, w = shape if spacing is None else new_shape(shape, own.tolist(), spacing)
        return d, h, w
    reach = np.abs(directions) @ (np.round(own, 6) * shape)  # of the box, in mm
    mm = np.round(own if spacing is None else spacing, 6)
    d, h, w = (max(1, int(np.ceil(length / step - 1e-6))) for length, step in zip(reach, mm, strict=True))
    return d, h, w


def to_scan(labels: npt.NDArray[np.uint8], ready: RawCase, raw: RawCase) -> npt.NDArray[np.uint8]:
    """Labels on the grid of `ready`, which `to_model` made, on that of `raw`: the nearest ones."""
    if _oblique(_directions(raw.affine)):
        return labels_to_grid(labels, ready.affine, raw.affine, raw.shape)
    return nearest(labels, raw.shape)  # by counting, so that how a file's axes ran can make no difference


def _directions(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of the axes, `[3, 3]`; rounded, so that a file that is turned by quarters gives the same numbers."""
    return np.round(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0), 6)


def _oblique(directions: npt.NDArray[np.float64]) -> bool:
    return bool(np.diag(directions).min() < np.cos(np.radians(UPRIGHT)))


def _linear(
    image: npt.NDArray[np.int16],
    index: npt.NDArray[np.float64],
    offset: npt.NDArray[np.float64],
    out: npt.NDArray[np.int16],
) -> None:
    given = {"matrix": index, "offset": offset, "output_shape": out.shape, "prefilter": False}
    ndimage.affine_transform(image, output=out, order=1, mode="nearest", **given)
    seen = np.broadcast_to(np.True_, image.shape)  # the outer half of the border's voxels belongs to the scan
    inside = ndimage.affine_transform(seen, output=bool, order=0, mode="grid-constant", cval=0, **given)
    out[~inside] = PAD_HU


def labels_to_grid(
    labels: npt.NDArray[np.uint8],
    affine_from: npt.ArrayLike,
    affine_to: npt.ArrayLike,
    shape_to: Sequence[int],
) -> npt.NDArray[np.uint8]:
    """Nearest-neighbour resampling by affines.

    Labels are resampled, not logits: one byte per voxel instead of four per voxel and channel.

    Args:
        labels: uint8 `[D,H,W]`.
        affine_from: `[4,4]`, voxel index of `labels` → mm.
        affine_to: `[4,4]`, voxel index of the result → mm, in the same space.
        shape_to: shape of the result.

    Returns:
        uint8 of `shape_to`; 0 outside the grid of `labels`, whose voxels reach half a voxel around their
        centres.

    Raises:
        DataError: an affine that cannot be inverted.
    """
    try:
        index = np.linalg.inv(np.asarray(affine_from, np.float64)) @ np.asarray(affine_to, np.float64)
    except np.linalg.LinAlgError as error:
        raise DataError(
            "the affine of the labels is singular",
            f"affine {np.asarray(affine_from).tolist()}",
            "mend the header of the scan; `lifelong-ct verify` lists such files",
            code="bad_affine",
        ) from error
    if labels.shape == tuple(shape_to) and np.allclose(index, np.eye(4), atol=1e-6):
        return labels.copy()
    result = np.empty(tuple(shape_to), dtype=np.uint8)
    # grid-constant: "constant" would cut the outer half voxel of the border
    ndimage.affine_transform(
        labels,
        index[:3, :3],
        offset=index[:3, 3],
        output_shape=result.shape,
        output=result,
        order=0,
        mode="grid-constant",
        cval=0,
        prefilter=False,
    )
    return result
