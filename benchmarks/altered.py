"""Copies of scans as collections contain them of each other: altered in one way or in several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from scipy import ndimage

Scan = tuple[npt.NDArray[Any], npt.NDArray[np.float64]]
"""Voxels `[D, H, W]` and affine."""
WINDOWS = (
    (-175, 250), (-1000, 400), (-160, 240), (-200, 300), (-125, 275), (-100, 240), (-57, 164), (-1000, 1000)
)  # fmt: skip
"""HU that data sets are clipped to."""


def canonical(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> Scan:
    """In RAS+, as readers give it."""
    turn = io_orientation(affine)
    return apply_orientation(voxels, turn), affine @ inv_ornt_aff(turn, voxels.shape)


def turned(scan: Scan, rng: np.random.Generator) -> Scan:
    """Axes in another order and direction, somewhere else in space."""
    order, (voxels, affine) = rng.permutation(3), scan
    voxels, affine = voxels.transpose(order), affine[:, [*order, 3]]
    for axis in np.flatnonzero(rng.random(3) < 0.5):
        flip = np.eye(4)
        flip[axis, axis], flip[axis, 3] = -1, voxels.shape[axis] - 1
        voxels, affine = np.flip(voxels, axis), affine @ flip
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    return canonical(voxels, affine)


def cropped(scan: Scan, rng: np.random.Generator, least: float, most: float = 1.0) -> Scan:
    """A box of `least` to `most` of each axis."""
    voxels, affine = scan
    start, cut = [], []
    for n, share in zip(voxels.shape, rng.uniform(least, most, 3), strict=True):
        size = max(2, round(n * share))
        start.append(int(rng.integers(0, n - size + 1)))
        cut.append(slice(start[-1], start[-1] + size))
    affine = affine.copy()
    affine[:3, 3] = (affine @ [*start, 1])[:3]
    return voxels[tuple(cut)], affine


def resampled(scan: Scan, factor: npt.ArrayLike) -> Scan:
    """Linear, so many times the voxel size per axis."""
    voxels, affine = scan
    shares = 1 / np.broadcast_to(np.asarray(factor, float), 3)
    out = ndimage.zoom(voxels.astype(np.float32), shares, order=1, mode="nearest", grid_mode=True)
    steps = np.array(voxels.shape) / out.shape
    grid = np.diag([*steps, 1.0])
    grid[:3, 3] = (steps - 1) / 2
    return out, affine @ grid


def noisy(scan: Scan, rng: np.random.Generator) -> Scan:
    """Up to 40 HU more noise, or 5 % of the spread of what is no CT."""
    voxels, affine = scan
    spread = rng.uniform(5, 40) if voxels.min() < -500 else 0.05 * voxels.std()
    return voxels + rng.normal(0, spread, voxels.shape), affine


def clipped(scan: Scan, rng: np.random.Generator) -> Scan:
    """To one of `WINDOWS`, if it is a CT."""
    voxels, affine = scan
    return (np.clip(voxels, *WINDOWS[rng.integers(len(WINDOWS))]) if voxels.min() < -500 else voxels), affine


def to_bytes(scan: Scan, rng: np.random.Generator) -> Scan:
    """Clipped to [-175, 250], and that as 0 … 255."""
    voxels, affine = scan
    low, high = (-175, 250) if voxels.min() < -500 else (voxels.min(), voxels.max())
    return np.rint((np.clip(voxels, low, high) - low) / (high - low) * 255).astype(np.uint8), affine


Alteration = Callable[[Scan, np.random.Generator], Scan]


def _all(scan: Scan, rng: np.random.Generator, least: float, most: float = 1.0) -> Scan:
    scan = cropped(resampled(scan, rng.uniform(0.6, 2, 3)), rng, least, most)
    return turned(clipped(noisy(scan, rng), rng), rng)


ALTERATIONS: dict[str, Alteration] = {
    "turned and moved": turned,
    "float64": lambda s, r: (s[0].astype(np.float64), s[1]),
    "unsigned, 1024 added": lambda s, r: ((s[0] + 1024.0).clip(0).astype(np.uint16), s[1]),
    "clipped to a window": clipped,
    "8 bits of [-175, 250]": to_bytes,
    "noise up to 40 HU": noisy,
    "voxels 0.6 to 2 times as large": lambda s, r: resampled(s, r.uniform(0.6, 2)),
    "likewise, each axis its own": lambda s, r: resampled(s, r.uniform(0.6, 2, 3)),
    "cropped to 60 … 100 % per axis": lambda s, r: cropped(s, r, 0.6),
    "cropped to 60 % per axis": lambda s, r: cropped(s, r, 0.6, 0.6),
    "cropped to 50 % per axis": lambda s, r: cropped(s, r, 0.5, 0.5),
    "all at once, 60 … 100 % per axis": lambda s, r: _all(s, r, 0.6),
    "all at once, 60 % per axis": lambda s, r: _all(s, r, 0.6, 0.6),
}
