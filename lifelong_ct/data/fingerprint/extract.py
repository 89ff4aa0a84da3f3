"""From voxels to key points: places that stand out at a scale of some 15 mm, where any copy of the scan has them
too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lifelong_ct.data.fingerprint.tone import LOW, tone
from lifelong_ct.data.fingerprint.types import PATTERN, STEP, Fingerprint, blank, packed

GRID = 3.0
"""mm per voxel of the grid that every scan is brought to."""
_INNER, _OUTER = 5.0, 8.0
"""mm: a key point is an extremum of the difference of two Gaussians (Lowe, IJCV 2004)."""
_FINE, _COARSE = 4.5, 10.0
"""mm, likewise for the image that codes compare."""
_LEAST = 3.0
"""HU that a key point stands out, at least."""
_ROOM, _AIR = 24.0, 0.75
"""Points with more than this share of air within so many mm are of the table, not of the body."""
_ROUND = 0.05
"""Least bend over greatest."""
_CROWD = 2000
"""Strongest places that are looked at."""
_FEWEST, _MOST, _PER_LITRE = 80, 192, 2.5
"""Key points, by the size of the body."""
_PER_PLACE, _BESIDES = 24, 64 << 20
"""Bytes per place of the grid, and besides, measured."""


def fingerprint(
    voxels: npt.NDArray[np.generic], affine: npt.NDArray[np.float64], modality: str = "CT"
) -> Fingerprint:
    """The fingerprint of a scan; without key points where it is blank, not finite, or a few mm thin.

    Args:
        voxels: `[D, H, W]` in canonical RAS+, HU where it is CT, of any type.
        affine: float64 `[4, 4]`, voxel index → mm.
        modality: only CT has a window.
    """
    slope, *rest = tone(voxels, modality)
    if slope == 0:
        return blank()
    image = _upright(*_shrunk(voxels, affine, slope, *rest))
    extent = (np.array(image.shape, np.float32) - 1) * GRID
    blobs = _between(image, _INNER, _OUTER)
    body = np.ones(image.shape, bool)
    if modality == "CT":
        body = ndimage.uniform_filter(image <= LOW + 1, _odd(_ROOM), np.float32, mode="nearest") < _AIR
    size = int(np.clip(np.count_nonzero(body) * GRID**3 / 1e6 * _PER_LITRE, _FEWEST, _MOST))
    places = _spread(blobs, _extrema(blobs, body), size)
    points = (np.rint(_refined(blobs, places) * GRID / STEP) * STEP).astype(np.float32)
    bright = blobs[tuple(places.T)] > 0
    return Fingerprint(extent, points, bright, _codes(_between(image, _FINE, _COARSE), points))


def working_bytes(shape: Sequence[int], affine: npt.NDArray[np.float64]) -> int:
    """Bytes that `fingerprint` takes meanwhile, besides the voxels."""
    corners = np.abs(affine[:3, :3]) @ np.asarray(shape, np.float64)
    return _BESIDES + int(_PER_PLACE * np.prod(corners / GRID + 2))


def _shrunk(
    voxels: npt.NDArray[np.generic],
    affine: npt.NDArray[np.float64],
    slope: float,
    intercept: float,
    low: float,
    high: float,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Means over blocks of whole voxels of at most `GRID` mm, a slab at a time."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    d, h, w = (max(1, min(int(GRID / s + 1e-3), n)) for s, n in zip(spacing, voxels.shape, strict=True))
    shape = (voxels.shape[0] // d, voxels.shape[1] // h, voxels.shape[2] // w)
    out = np.empty(shape, np.float32)
    for i in range(shape[0]):
        slab = voxels[i * d : (i + 1) * d, : shape[1] * h, : shape[2] * w].astype(np.float32)
        slab *= np.float32(slope)
        slab += np.float32(intercept)
        np.clip(slab, low, high, out=slab)
        out[i] = slab.reshape(d, shape[1], h, shape[2], w).mean(axis=(0, 2, 4))
    grid = np.diag([d, h, w, 1.0])
    grid[:3, 3] = (np.array([d, h, w]) - 1) / 2
    return out, affine @ grid


def _upright(image: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """On a grid of `GRID` mm along the axes of the patient, whatever those of the scan are."""
    corners = np.array(list(product(*((0, n - 1) for n in image.shape)))) @ affine[:3, :3].T
    first = corners.min(axis=0)
    shape = tuple(int(n) + 1 for n in (np.ptp(corners, axis=0) / GRID + 1e-6))
    back = np.linalg.inv(affine[:3, :3])
    return ndimage.affine_transform(image, back * GRID, back @ first, shape, order=1, mode="nearest")


def _between(image: npt.NDArray[np.float32], fine: float, coarse: float) -> npt.NDArray[np.float32]:
    """What is seen at one width in mm, and not at the other."""
    seen, coarser = (
        ndimage.gaussian_filter(image, mm / GRID, mode="nearest", truncate=3) for mm in (fine, coarse)
    )
    seen -= coarser
    return seen


def _codes(band: npt.NDArray[np.float32], points: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Which place of each pair about each point is the brighter one."""
    if not len(points):
        return np.zeros(0, np.uint64)
    at = np.moveaxis((points[:, None, None] + PATTERN) / GRID, -1, 0)
    seen = ndimage.map_coordinates(band, at, order=1, mode="nearest")
    return packed(seen[:, 0] > seen[:, 1])


def _odd(mm: float) -> int:
    return int(mm / GRID) | 1


def _extrema(blobs: npt.NDArray[np.float32], body: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Grid places `[n, 3]` off the border that are higher or lower than their 26 neighbours, the strongest first."""
    peaks = (ndimage.maximum_filter(blobs, 3) == blobs) & (blobs > _LEAST)
    peaks |= (ndimage.minimum_filter(blobs, 3) == blobs) & (blobs < -_LEAST)
    peaks &= body
    places = np.argwhere(peaks[1:-1, 1:-1, 1:-1]) + 1
    places = places[np.argsort(-np.abs(blobs[tuple(places.T)]), kind="stable")]
    return places[_round(blobs, places)]


def _round(blobs: npt.NDArray[np.float32], places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether they stand out along every direction: a point of a ridge (the spine, a table) could be anywhere
    along it."""
    axes = np.eye(3, dtype=np.int64)

    def at(*steps: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return blobs[tuple((places + sum(steps)).T)].astype(np.float64)

    hessian = np.empty((len(places), 3, 3))
    for i, a in enumerate(axes):
        hessian[:, i, i] = at(a) + at(-a) - 2 * at()
        for j, b in enumerate(axes[:i]):
            hessian[:, i, j] = hessian[:, j, i] = (at(a, b) + at(-a, -b) - at(a, -b) - at(-a, b)) / 4
    bends = np.abs(np.linalg.eigvalsh(hessian))
    return bends.min(axis=1) > _ROUND * bends.max(axis=1)


def _spread(
    blobs: npt.NDArray[np.float32], places: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.int64]:
    """The `size` places that stand farthest from any stronger one (Brown, Szeliski and Winder, CVPR 2005), the
    farthest first: spread over the body, so that what a crop keeps is found in the crop too."""
    places = places[:_CROWD]
    far = places.astype(np.float32)  # whole numbers: exact
    squares = (far**2).sum(axis=1)
    apart = squares[:, None] + squares - 2 * far @ far.T
    apart[~np.tri(len(places), k=-1, dtype=bool)] = np.inf
    return places[np.argsort(-apart.min(axis=1, initial=np.inf), kind="stable")[:size]]


def _refined(blobs: npt.NDArray[np.float32], places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Tops of the parabolas through each place and its neighbours, per axis."""
    points = places.astype(np.float64)
    here = blobs[tuple(places.T)]
    for axis in range(3):
        step = np.eye(3, dtype=np.int64)[axis]
        after, before = blobs[tuple((places + step).T)], blobs[tuple((places - step).T)]
        bend = after + before - 2 * here
        shift = np.divide(before - after, 2 * bend, out=np.zeros_like(here), where=bend != 0)
        points[:, axis] += np.clip(shift, -0.5, 0.5)
    return points
