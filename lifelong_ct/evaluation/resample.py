"""Label maps from one voxel grid to another, such as from the working grid back to the scan's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lifelong_ct.core.errors import DataError


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
