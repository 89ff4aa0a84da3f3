"""Exact distances from the points of one surface to the nearest of another, on a grid."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

Spacing = tuple[float, float, float]

_TRIED = 120
"""About so many places around a point are looked at one by one before a tree is asked: surfaces that are compared mostly
lie within two voxels, where a look costs a hundredth of a question."""
_ROUNDING = 1e-12
"""Distances that differ by less than this share of them are equal."""


@lru_cache(maxsize=256)
def _around(spacing: Spacing) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """All steps on the grid within a radius, int64 `[k, 3]`, and their length in mm, ascending: no step that is missing
    is shorter than the last."""
    radius = (_TRIED * float(np.prod(spacing)) * 3 / (4 * np.pi)) ** (1 / 3)
    reach = [int(radius / mm) for mm in spacing]
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
    mm = lengths(steps, spacing)
    order = np.argsort(mm, kind="stable")
    order = order[mm[order] <= radius]
    return steps[order], mm[order]


def lengths(steps: npt.NDArray[np.int64], spacing: Spacing) -> npt.NDArray[np.float64]:
    """mm of steps `[n, 3]`, rounded as scipy's distance transform rounds them: at a tolerance that is a multiple of the
    spacing the last bit decides."""
    along = steps * np.asarray(spacing, dtype=np.float64)
    return np.sqrt(np.add.reduce(along * along, axis=1))


def margin(spacing: Spacing) -> tuple[int, int, int]:
    """Empty points that `distances` needs around a surface, per axis."""
    d, h, w = _around(spacing)[0].max(axis=0).tolist()
    return d, h, w


@lru_cache(maxsize=256)
def undecided(limit: float, spacing: Spacing) -> bool:
    """Whether steps that are equally long, but for rounding, lie on both sides of a limit in mm: of voxels of 1.2 mm
    (2, 2, 1) is longer than 3 * 1.2, (3, 0, 0) is not."""
    d, h, w = spacing
    i, j = np.meshgrid(np.arange(limit // d + 2), np.arange(limit // h + 2), indexing="ij")
    k = np.rint(np.sqrt(np.maximum(limit**2 - (i * d) ** 2 - (j * h) ** 2, 0)) / w)
    mm = lengths(np.stack([i, j, k], -1).reshape(-1, 3).astype(np.int64), spacing)
    same = mm[np.abs(mm - limit) <= _ROUNDING * limit]
    return bool(len(same) and same.min() <= limit < same.max())


def distances(
    places: npt.NDArray[np.int64],
    surface: npt.NDArray[np.bool_],
    spacing: Spacing,
    limit: float | None = None,
) -> npt.NDArray[np.float64]:
    """From each place to the nearest point of a surface, centre to centre.

    Args:
        places: indices into the flattened grid, `[n]`, none nearer to its end than `margin`.
        surface: bool `[D,H,W]` in C order, not empty, on the same grid.
        spacing: mm per axis.
        limit: mm that distances will be compared with. Where rounding decides which of several nearest points is
            within, it is the one that scipy's distance transform takes.

    Returns:
        float64 `[n]`, mm.
    """
    found = _nearest(places, surface, spacing)
    if limit is not None and undecided(limit, spacing):
        same = np.abs(found - limit) <= _ROUNDING * limit
        if same.any():
            found[same] = _transformed(places[same], surface, spacing)
    return found


def _nearest(
    places: npt.NDArray[np.int64], surface: npt.NDArray[np.bool_], spacing: Spacing
) -> npt.NDArray[np.float64]:
    flat = surface.reshape(-1)
    found = np.empty(len(places))
    left, at = np.arange(len(places)), places
    steps, mm = _around(spacing)
    jumps = steps @ np.array([surface.shape[1] * surface.shape[2], surface.shape[2], 1])
    for jump, length in zip(jumps.tolist(), mm.tolist()):
        hit = flat[at + jump]
        found[left[hit]] = length
        left, at = left[~hit], at[~hit]
        if not len(left):
            return found
    found[left] = _far(at, surface, spacing)
    return found


def _far(
    places: npt.NDArray[np.int64], surface: npt.NDArray[np.bool_], spacing: Spacing
) -> npt.NDArray[np.float64]:
    mm = np.asarray(spacing, dtype=np.float64)
    to = _points(np.flatnonzero(surface), surface.shape)
    tree = cKDTree(to * mm, leafsize=32, compact_nodes=False, balanced_tree=False)
    points = _points(places, surface.shape)
    return lengths(points - to[tree.query(points * mm)[1]], spacing)


def _transformed(
    places: npt.NDArray[np.int64], surface: npt.NDArray[np.bool_], spacing: Spacing
) -> npt.NDArray[np.float64]:
    """By scipy's transform of the whole grid, 12 bytes per point and more: too dear where it need not be."""
    to = ndimage.distance_transform_edt(
        ~surface, sampling=spacing, return_distances=False, return_indices=True
    ).reshape(3, -1)
    return lengths(_points(places, surface.shape) - to[:, places].T, spacing)


def _points(places: npt.NDArray[np.int64], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.stack(np.unravel_index(places, shape), -1)
