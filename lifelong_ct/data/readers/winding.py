"""Voxels inside a closed surface, by counting how often it winds around each.

A ray runs through every column of voxels; where it goes into the surface the count rises, where it comes out it
falls, and a voxel is inside where the count is not 0. So hollows whose walls are turned inwards stay hollow, and
bodies that overlap do not cut each other. In the plane of the columns all arithmetic is in whole numbers, and a ray
that meets an edge is moved aside by an infinitesimal step (Edelsbrunner & Mücke, ACM Trans. Graph. 9(1), 1990,
doi 10.1145/77635.77639): neighbouring triangles never disagree about it, so nothing leaks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

FINE = 1 << 16
"""Steps per voxel that corners are rounded to."""
PAIRS = 1 << 18
"""Triangles × columns looked at together."""
SLAB_BYTES = 16 << 20

Ints = npt.NDArray[np.int64]


def fill(
    corners: npt.NDArray[np.float64], faces: npt.NDArray[np.integer], shape: tuple[int, int, int]
) -> npt.NDArray[np.bool_]:
    """Which voxel centres lie inside.

    Memory grows with the surface, not with surface × volume. A centre on the surface is inside where the inside
    follows along the axes, so shapes that touch never share a voxel.

    Args:
        corners: `[n, 3]` in voxels, no further from the grid than some voxels.
        faces: `[m, 3]`, closed, neighbours wound alike.
        shape: voxels `(D, H, W)`.
    """
    parts = list(_crossings(np.rint(corners * FINE).astype(np.int64), faces, shape))
    column, height, change = (np.concatenate([part[i] for part in parts]) for i in range(3))
    order = np.argsort(column, kind="stable")
    column, height, change = column[order], height[order], change[order]
    depth, rows, width = shape
    inside = np.zeros(shape, bool)
    planes = max(1, SLAB_BYTES // (2 * rows * (width + 1)))
    for first in range(0, depth, planes):
        last = min(first + planes, depth)
        here = slice(*np.searchsorted(column, [first * rows, last * rows]))
        count = np.zeros(((last - first) * rows, width + 1), np.int16)
        np.add.at(count, (column[here] - first * rows, height[here]), change[here])
        np.cumsum(count, axis=1, out=count)
        inside[first:last] = (count[:, :width] != 0).reshape(-1, rows, width)
    return inside


def _crossings(
    corners: Ints, faces: npt.NDArray[np.integer], shape: tuple[int, int, int]
) -> Iterator[tuple[Ints, Ints, npt.NDArray[np.int16]]]:
    """Column, first voxel behind the surface, and change of the count, a part of the triangles at a time."""
    limit = np.array(shape[:2]) - 1
    yield np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int16)
    for some in np.array_split(faces, max(1, len(faces) * 16 // PAIRS)):
        triangles = corners[some]
        low = np.maximum(-(-triangles[:, :, :2].min(1) // FINE), 0)
        high = np.minimum(triangles[:, :, :2].max(1) // FINE, limit)
        sizes = np.maximum(high - low + 1, 0)
        pairs = sizes.prod(1)
        start = 0
        ends = np.cumsum(pairs)
        while start < len(some):  # as many triangles as fit, one at least
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS, side="right")))
            part = slice(start, stop)
            yield _cross(triangles[part], low[part], sizes[part, 1], pairs[part], shape)
            start = stop


def _cross(
    triangles: Ints, low: Ints, rows: Ints, pairs: Ints, shape: tuple[int, int, int]
) -> tuple[Ints, Ints, npt.NDArray[np.int16]]:
    which = np.repeat(np.arange(len(triangles)), pairs)
    number = np.arange(len(which)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    i, j = low[which, 0] + number // rows[which], low[which, 1] + number % rows[which]
    a, b, c = triangles[which].swapaxes(0, 1)
    edges = [_edge(i * FINE, j * FINE, *ends) for ends in ((b, c), (c, a), (a, b))]
    sides = [side for _, side in edges]
    hit = (sides[0] == sides[1]) & (sides[1] == sides[2]) & (sides[0] != 0)
    weights = np.stack([weight[hit] for weight, _ in edges]).astype(np.float64)
    heights = np.stack([corner[hit, 2] for corner in (a, b, c)])
    height = np.rint((weights * heights).sum(0) / weights.sum(0)).astype(np.int64)
    behind = np.clip(-(-height // FINE), 0, shape[2])
    return i[hit] * shape[1] + j[hit], behind, sides[0][hit].astype(np.int16)


def _edge(x: Ints, y: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Twice the area of (start, end, point), and on which side the point lies after a step of (ε, ε²)."""
    along = end[:, :2] - start[:, :2]
    area = along[:, 0] * (y - start[:, 1]) - along[:, 1] * (x - start[:, 0])
    moved = np.where(along[:, 1] != 0, -np.sign(along[:, 1]), np.sign(along[:, 0]))
    return area, np.where(area != 0, np.sign(area), moved)
