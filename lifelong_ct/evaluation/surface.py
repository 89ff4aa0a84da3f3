"""Distances between the surfaces of one organ in one case, in mm."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from lifelong_ct.core.errors import LifelongCTError


class Surface:
    """Normalised surface Dice at a tolerance (`nsd`) and 95 % Hausdorff distance in mm (`hd95`).

    NSD is the share of both surfaces, weighted by their area between voxel centres, that lies within the
    tolerance of the other one (Nikolov et al. 2018, arXiv 1809.04430, eq. 1-3), as MONAI computes it with
    `use_subvoxels=True`. HD95 is MONAI's: edge voxels by erosion, the larger of the two directed 95th
    percentiles.

    Conventions: both masks empty → None for both. One of them empty → NSD 0, and HD95 None: there is no
    finite distance, so a mean of HD95 says nothing about missed organs and is read beside Dice or NSD.
    What lies outside the volume is not organ: where the field of view cuts an organ, there is surface.

    Args:
        tolerance: mm up to which two surfaces count as equal.

    Raises:
        LifelongCTError: the tolerance is negative or not finite.
    """

    names: tuple[str, ...] = ("nsd", "hd95")

    def __init__(self, tolerance: float = 2.0) -> None:
        if not (np.isfinite(tolerance) and tolerance >= 0):
            raise LifelongCTError(
                f"{tolerance!r} is not a distance in mm", "evaluation.metrics tolerance", "write 0 or more mm"
            )
        self.tolerance = float(tolerance)

    def __call__(
        self, prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_], spacing: Sequence[float]
    ) -> dict[str, float | None]:
        """Scores bool masks `[D,H,W]` with voxels of `spacing` mm."""
        predicted, true = bool(prediction.any()), bool(reference.any())
        if not (predicted and true):
            return {"nsd": 0.0 if predicted or true else None, "hd95": None}
        y_pred, y = (_tensor(mask) for mask in _around(prediction, reference))
        mm = [float(s) for s in spacing]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # MONAI warns of its own call
            nsd = compute_surface_dice(
                y_pred, y, [self.tolerance], include_background=True, spacing=mm, use_subvoxels=True
            )
            hd95 = compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=mm)
        return {"nsd": float(nsd), "hd95": float(hd95)}


def _around(*masks: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """The masks inside their common bounding box, with one voxel of background all around."""
    either = np.logical_or.reduce(masks)
    box = []
    for axis in range(either.ndim):
        others = tuple(a for a in range(either.ndim) if a != axis)
        inside = np.flatnonzero(either.any(axis=others))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return [np.pad(mask[tuple(box)], 1) for mask in masks]


def _tensor(mask: npt.NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None]
