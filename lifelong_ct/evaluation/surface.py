"""Distances between the surfaces of one organ in one case, in mm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.nearest import Spacing, distances, margin
from lifelong_ct.evaluation.surfels import areas, neighbour_codes, on_surface
from lifelong_ct.evaluation.tolerances import OTHERS, tolerances

Mask = npt.NDArray[np.bool_]
DEFINITIONS = ("deepmind", "monai")
_TORCH_SORTS = 1 << 24
"""Numbers of which `torch.quantile` takes a quantile."""


class Surface:
    """Normalised surface Dice (`nsd`), 95 % Hausdorff distance (`hd95`) and average surface distances, in mm.

    Surfaces are those of DeepMind's surface-distance (Nikolov et al. 2018, arXiv 1809.04430): surface elements between
    voxel centres, weighted by their area. With d(p) the distance of an element of the prediction to the nearest of the
    reference, d(r) the other way round, and a their areas:

    - `nsd`: area of both with d <= tolerance / area of both (eq. 1-3).
    - `hd95`: the larger of the two 95th percentiles by area.
    - `asd_to_reference`: Σ a d(p) / Σ a; `asd_to_prediction`: Σ a d(r) / Σ a; `asd`: both sums together, the average
      symmetric surface distance.

    `definition="monai"` takes distances between edge voxels, unweighted, for all but `nsd`, as MONAI's
    `HausdorffDistanceMetric(percentile=95)` and `SurfaceDistanceMetric` do (`symmetric=True` is `asd`, else
    `asd_to_reference`).

    Conventions: both masks empty → None for all. One of them empty → NSD 0, and no distance (None): there is no finite
    one, so a mean of distances says nothing about missed organs and is read beside Dice or NSD. What lies outside the
    volume is not organ: where the field of view cuts an organ, there is surface.

    Args:
        tolerance: mm up to which surfaces count as equal: one value, some organs' (the others stay as in
            `tolerances.yaml`), or that table where None.
        definition: `deepmind` or `monai`.

    Raises:
        LifelongCTError: a tolerance is negative or not finite, an organ or the definition is unknown.
    """

    names: tuple[str, ...] = ("nsd", "hd95", "asd", "asd_to_reference", "asd_to_prediction")

    def __init__(
        self, tolerance: float | Mapping[str, float] | None = None, definition: str = "deepmind"
    ) -> None:
        if definition not in DEFINITIONS:
            raise LifelongCTError(
                f"no definition of a surface is called {definition!r}",
                "evaluation.metrics definition",
                f"write {' or '.join(DEFINITIONS)}",
            )
        self.definition = definition
        self._tolerances = tolerances(tolerance)

    @property
    def tolerance(self) -> float:
        """mm, of organs that have none of their own."""
        return self._tolerances[OTHERS]

    def for_organ(self, organ: str) -> Surface:
        """The same with the tolerance of an organ (canonical name)."""
        return Surface(self._tolerances.get(organ, self.tolerance), self.definition)

    def __call__(
        self, prediction: Mask, reference: Mask, spacing: Sequence[float]
    ) -> dict[str, float | None]:
        """Scores bool masks `[D,H,W]` with voxels of `spacing` mm."""
        box = _box(prediction, reference)
        if box is None:
            either = bool(prediction.any() or reference.any())
            return {**dict.fromkeys(self.names), "nsd": 0.0 if either else None}
        d, h, w = (float(mm) for mm in spacing)
        masks, grid = (prediction[box], reference[box]), (d, h, w)
        there, back = _by_area(*masks, grid, self.tolerance)
        nsd = (there.within(self.tolerance) + back.within(self.tolerance)) / (there.area + back.area)
        if self.definition == "monai":
            there, back = _by_voxel(*masks, grid)
        return {
            "nsd": float(nsd),
            "hd95": max(there.hd95(), back.hd95()),
            "asd": (there.sum + back.sum) / (there.area + back.area),
            "asd_to_reference": there.sum / there.area,
            "asd_to_prediction": back.sum / back.area,
        }


@dataclass(frozen=True)
class _Distances:
    """From the points of one surface to the other.

    Attributes:
        mm: float64 `[n]`.
        areas: float64 `[n]`, mm²; None where every point counts the same.
    """

    mm: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float64] | None = None

    @property
    def area(self) -> float:
        return float(len(self.mm) if self.areas is None else self.areas.sum())

    @property
    def sum(self) -> float:
        return float(self.mm.sum() if self.areas is None else self.mm @ self.areas)

    def within(self, tolerance: float) -> float:
        """Area up to a distance."""
        near = self.mm <= tolerance
        return float(np.count_nonzero(near) if self.areas is None else self.areas[near].sum())

    def hd95(self) -> float:
        """The 95th percentile: interpolated between points (in single precision, as MONAI does: of 100,000 points it is
        another by some tenths of a micrometre), or the first distance at which 95 % of the area is reached (in
        surface-distance's order of summation: where areas are equal the last bit decides)."""
        if self.areas is None:
            if len(self.mm) > _TORCH_SORTS:
                return float(np.percentile(self.mm, 95))
            return float(torch.quantile(torch.from_numpy(self.mm).float(), 0.95))
        order = np.lexsort((self.areas, self.mm))
        share = np.cumsum(self.areas[order])
        share /= np.sum(self.areas[order])
        at = min(int(np.searchsorted(share, 0.95)), len(order) - 1)
        return float(self.mm[order[at]])


def _by_area(
    prediction: Mask, reference: Mask, spacing: Spacing, tolerance: float
) -> tuple[_Distances, _Distances]:
    """DeepMind's: between the points where voxels of both kinds meet."""
    sides = []
    for mask in (prediction, reference):
        codes = neighbour_codes(mask, margin(spacing))
        surface = on_surface(codes)
        places = np.flatnonzero(surface)
        sides.append((surface, places, areas(spacing)[codes.reshape(-1)[places]]))
    (one, there, area), (two, back, other_area) = sides
    return (
        _Distances(distances(there, two, spacing, tolerance), area),
        _Distances(distances(back, one, spacing, tolerance), other_area),
    )


def _by_voxel(prediction: Mask, reference: Mask, spacing: Spacing) -> tuple[_Distances, _Distances]:
    """MONAI's: between the voxels of a mask that have a face outside of it."""
    one, two = (
        _edge(np.pad(mask, [(m + 1,) * 2 for m in margin(spacing)])) for mask in (prediction, reference)
    )
    return (
        _Distances(distances(np.flatnonzero(one), two, spacing)),
        _Distances(distances(np.flatnonzero(two), one, spacing)),
    )


def _edge(mask: Mask) -> Mask:
    """Voxels with a neighbour across a face that is outside; the mask has an empty border."""
    inside = mask.copy()
    for axis in range(3):
        along, rows = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)
        rows[1:] &= along[:-1]
        rows[:-1] &= along[1:]
    return mask & ~inside


def _box(prediction: Mask, reference: Mask) -> tuple[slice, ...] | None:
    """The smallest box around both masks; None where one of them is empty."""
    one, two = (ndimage.find_objects(mask.view(np.uint8), 1)[0] for mask in (prediction, reference))
    if one is None or two is None:
        return None
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, two))
