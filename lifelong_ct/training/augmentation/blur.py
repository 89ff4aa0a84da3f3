"""Gaussian blur."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lifelong_ct.training.augmentation.separable import gaussian, mapped
from lifelong_ct.training.augmentation.transform import Drawn, Transform, bounds, number


class Blur(Transform):
    """Convolution with a Gaussian that has a width of its own per channel and axis, mirrored at the patch's ends.

    Args:
        p: probability.
        sigma: voxels, lowest and highest, evenly between.
        p_channel: probability of each channel of a sample that is changed.
    """

    def __init__(self, p: float, sigma: Sequence[float], p_channel: float = 1.0) -> None:
        super().__init__(p)
        self.sigma, self.p_channel = bounds(sigma, "sigma", 0), number(p_channel, "p_channel", 0, 1)

    def parameters(self, rng: np.random.Generator, shape: Sequence[int]) -> Drawn | None:
        chosen = rng.random(shape[0]) < self.p_channel
        sigma = rng.uniform(*self.sigma, (shape[0], 3)) * chosen[:, None]
        return {"sigma": sigma} if chosen.any() else None

    def __call__(self, x: Tensor, y: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return mapped(x, gaussians(x.shape[2:], drawn["sigma"])), y


def gaussians(size: Sequence[int], sigma: np.ndarray) -> list[np.ndarray]:
    """Matrices for `mapped` from sigmas `[n,C,3]` in voxels; 0 leaves a channel as it is."""
    n, channels, _ = sigma.shape
    return [
        np.stack([gaussian(extent, float(s)) for s in sigma[..., axis].ravel()]).reshape(
            n, channels, extent, extent
        )
        for axis, extent in enumerate(size)
    ]
