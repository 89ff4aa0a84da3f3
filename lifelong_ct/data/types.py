"""Voxels of one case as a layout gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RawCase:
    """A case on its own grid, in canonical RAS+ (array axes D H W are NIfTI x y z after reorientation).

    Attributes:
        image: int16 `[D, H, W]` or `[C, D, H, W]`, HU for CT.
        label: uint8 or uint16 `[D, H, W]`; value i >= 1 is `organs[i - 1]`, 0 is everything else. None
            where nothing was annotated.
        affine: float64 `[4, 4]`, voxel index → mm (RAS+).
        organs: the annotated canonical organs, in the order of `Case.organs`.
        original_affine: float64 `[4, 4]` of the file, before reorientation; None for a drawn case.
        original_shape: voxels per axis in the file; None for a drawn case.
    """

    image: npt.NDArray[np.int16]
    label: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | None
    affine: npt.NDArray[np.float64]
    organs: tuple[str, ...]
    original_affine: npt.NDArray[np.float64] | None = None
    original_shape: tuple[int, ...] | None = None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm per array axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)
