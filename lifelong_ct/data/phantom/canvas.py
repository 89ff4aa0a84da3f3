"""The grid that a patient is painted on: HU with soft edges, labels with hard ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.phantom.anatomy import Part
from lifelong_ct.data.phantom.population import ORGANS
from lifelong_ct.data.phantom.shapes import Array

Box = tuple[slice, ...]
EVERYWHERE: Box = (slice(None),) * 3
WARP = 6.0
"""Largest displacement of the smooth deformation per axis, mm."""


class Canvas:
    """HU and labels of one patient.

    Args:
        shape: voxels `[D, H, W]`.
        affine: float64 `[4, 4]`, voxel index → patient mm (RAS+), diagonal with a translation.
        rng: draws the patient's own smooth deformation.
        variation: factor on the deformation.

    Attributes:
        hu: float64 `[D, H, W]`.
        label: uint8 `[D, H, W]`, 0 or 1 + index in `ORGANS`.
        axes: float64 `[D]`, `[H]`, `[W]`, places of the voxel centres along each axis in mm.
        x, y, z: float64 `[D, H, W]`, deformed patient coordinates of the voxel centres in mm.
        room: the same undeformed, `[D, 1, 1]`, `[1, H, 1]`, `[1, 1, W]`.
    """

    def __init__(
        self, shape: tuple[int, int, int], affine: Array, rng: np.random.Generator, variation: float
    ) -> None:
        self.hu: Array = np.full(shape, -1000.0)
        self.label: npt.NDArray[np.uint8] = np.zeros(shape, np.uint8)
        self.axes = [affine[a, 3] + affine[a, a] * np.arange(shape[a]) for a in range(3)]
        self._edge = float(np.mean(np.diag(affine)[:3]))
        shifts = [smooth(self.axes, rng) * (WARP * variation) for _ in range(3)]
        self.room = grid = np.meshgrid(*self.axes, indexing="ij", sparse=True)
        self.x, self.y, self.z = (g + s for g, s in zip(grid, shifts))
        self._reach = WARP * variation + self._edge

    def fill(self, depth: Array, hu: float | Array, box: Box = EVERYWHERE, organ: int = 0) -> None:
        """Paints HU where depth (mm) is positive, with partial volume at the edge; `organ` 0 unlabels."""
        share = np.clip(depth / self._edge + 0.5, 0.0, 1.0)
        self.hu[box] += share * (hu - self.hu[box])
        self.label[box][depth > 0] = organ

    def paint(self, part: Part, hu: Mapping[str, float], inside: Array) -> None:
        """Paints a part, cut off where `inside` (depth in mm, `[D, H, W]`) ends."""
        low, high = part.solid.bounds()
        box = tuple(
            slice(*np.searchsorted(axis, (lo - self._reach, hi + self._reach)).tolist())
            for axis, lo, hi in zip(self.axes, low, high)
        )
        depth = part.solid.depth(self.x[box], self.y[box], self.z[box])
        np.minimum(depth, inside[box], out=depth)
        value: float | Array = hu[part.tissue]
        if part.core is not None:
            inner = np.clip((depth - part.shell) / self._edge + 0.5, 0.0, 1.0)
            value = value + inner * (hu[part.core] - value)
        self.fill(depth, value, box, 0 if part.organ is None else 1 + ORGANS.index(part.organ))


def smooth(axes: list[Array], rng: np.random.Generator) -> Array:
    """A smooth field in [-1, 1] `[D, H, W]`: two plane waves of 180-400 mm."""
    field = np.zeros(tuple(axis.size for axis in axes))
    for _ in range(2):
        direction = rng.standard_normal(3)
        direction /= np.sqrt((direction * direction).sum())
        k = direction * (2 * np.pi / rng.uniform(180.0, 400.0))
        waves = [np.exp(1j * (k[a] * axes[a])) for a in range(3)]
        waves[0] = waves[0] * np.exp(1j * rng.uniform(0.0, 2 * np.pi))
        field += (waves[0][:, None, None] * (waves[1][:, None] * waves[2])).real / 2
    return field
