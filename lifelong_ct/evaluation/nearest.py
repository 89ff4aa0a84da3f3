"""Exact distances from the points of one surface to the nearest of another, on a grid."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Spacing = tuple[float, float, float]

_TRIED = 120
"""About so many places around a point are looked at one by one before a tree is asked: surfaces that are compared mostly
lie within two voxels, where a look costs a hundredth of a question."""


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


def distances(
    places: npt.NDArray[np.int64], surface: npt.NDArray[np.bool_], spacing: Spacing
) -> npt.NDArray[np.float64]:
    """From each place to the nearest point of a surface, centre to centre.

    Args:
        places: indices into the flattened grid, `[n]`, none nearer to its end than `margin`.
        surface: bool `[D,H,W]` in C order, not empty, on the same grid.
        spacing: mm per axis.

    Returns:
        float64 `[n]`, mm.
    """
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


def _points(places: npt.NDArray[np.int64], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.stack(np.unravel_index(places, shape), -1)
