"""Linear maps along each voxel axis, another one for each sample and channel: blur and resampling as products of small
matrices, which one kernel does for the whole batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

TRUNCATE = 3.0
"""Standard deviations at which a Gaussian ends."""


def mapped(x: Tensor, matrices: Sequence[np.ndarray]) -> Tensor:
    """The channels of a batch, mapped along D, H and W.

    Args:
        x: float `[B,C,D,H,W]`.
        matrices: one `[B,C,N,N]` per axis, row o the weights of output voxel o.
    """
    d, h, w = (torch.from_numpy(m).to(x.device, x.dtype) for m in matrices)
    b, c, *size = x.shape
    out = (d @ x.flatten(3)).view(x.shape)
    out = h[:, :, None] @ out
    return (out.view(b, c, -1, size[2]) @ w.mT).view(x.shape)


def gaussian(n: int, sigma: float) -> np.ndarray:
    """Convolution of n voxels with a sampled Gaussian of sigma voxels, mirrored at the ends: `[n,n]`."""
    reach = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma, 1e-12)) ** 2)
    matrix, rows = np.zeros((n, n)), np.arange(n)
    for offset, weight in zip(offsets, weights / weights.sum(), strict=True):
        np.add.at(matrix, (rows, _reflected(rows + offset, n)), weight)
    return matrix


def coarse(n: int, share: float) -> np.ndarray:
    """A share of n voxels, the nearest ones, and back by linear interpolation: `[n,n]`. As `interpolate` of PyTorch with
    `nearest-exact`, then with `trilinear`."""
    few = max(1, round(n * share))
    kept = np.minimum(((np.arange(few) + 0.5) * (n / few)).astype(int), n - 1)
    at = np.maximum((np.arange(n) + 0.5) * (few / n) - 0.5, 0)
    low = np.minimum(at.astype(int), few - 1)
    high = np.minimum(low + 1, few - 1)
    matrix, rows = np.zeros((n, n)), np.arange(n)
    np.add.at(matrix, (rows, kept[low]), 1 - (at - low))
    np.add.at(matrix, (rows, kept[high]), at - low)
    return matrix


def _reflected(index: np.ndarray, n: int) -> np.ndarray:
    if n == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * n - 2)
    return np.minimum(folded, 2 * n - 2 - folded)
