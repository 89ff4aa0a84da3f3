"""The volume of one organ in one case, and its error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MM3_PER_ML = 1000.0


def volume_ml(mask: npt.NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """Voxel count × voxel volume, in mL.

    Args:
        mask: bool `[D,H,W]`.
        spacing: mm per array axis.
    """
    return int(np.count_nonzero(mask)) * float(np.prod(np.asarray(spacing, dtype=np.float64))) / MM3_PER_ML


class Volume:
    """Predicted and reference volume, signed error (predicted − reference) and absolute error, in mL.

    Always defined: an empty mask has 0 mL, so an absent organ that is predicted absent has an error of 0.
    """

    names: tuple[str, ...] = ("volume_ml", "reference_ml", "volume_error_ml", "volume_abs_error_ml")

    def __call__(
        self, prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_], spacing: Sequence[float]
    ) -> dict[str, float | None]:
        """Measures bool masks `[D,H,W]` with voxels of `spacing` mm."""
        predicted, true = volume_ml(prediction, spacing), volume_ml(reference, spacing)
        error = predicted - true
        return dict(zip(self.names, (predicted, true, error, abs(error)), strict=True))
