"""Gamma."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lifelong_ct.training.augmentation.contrast import VOXELS
from lifelong_ct.training.augmentation.transform import Drawn, Transform, around_one, bounds, column

_TINY = 1e-7


class Gamma(Transform):
    """a + r ((x - a) / r)^g with the lowest value a and the range r of the channel in the patch, brought back to the mean
    and standard deviation that it had. Inverted: of -x, and back.

    Args:
        p: probability.
        gamma: lowest and highest g; half of the draws are below 1.
        invert: whether the bright end is bent instead of the dark one.
    """

    def __init__(self, p: float, gamma: Sequence[float], invert: bool = False) -> None:
        super().__init__(p)
        self.gamma, self.sign = bounds(gamma, "gamma", 0), -1.0 if invert else 1.0

    def parameters(self, rng: np.random.Generator, shape: Sequence[int]) -> Drawn:
        return {"gamma": around_one(rng, self.gamma, shape[0])}

    def __call__(self, x: Tensor, y: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        old = self.sign * x
        low = old.amin(VOXELS, keepdim=True)
        extent = (old.amax(VOXELS, keepdim=True) - low).clamp(min=_TINY)
        bent = low + extent * ((old - low) / extent) ** column(drawn["gamma"], x)
        new = bent - bent.mean(VOXELS, keepdim=True)
        spread = old.std(VOXELS, keepdim=True) / bent.std(VOXELS, keepdim=True).clamp(min=_TINY)
        return self.sign * (new * spread + old.mean(VOXELS, keepdim=True)), y
