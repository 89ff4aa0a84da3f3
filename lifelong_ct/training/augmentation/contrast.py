"""Contrast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lifelong_ct.training.augmentation.transform import Drawn, Transform, around_one, bounds, column

VOXELS = (2, 3, 4)


class Contrast(Transform):
    """m + f (x - m) with the mean m of the channel in the patch and a factor f, clipped to the range that it had.

    Args:
        p: probability.
        factor: lowest and highest f; half of the draws are below 1.
    """

    def __init__(self, p: float, factor: Sequence[float]) -> None:
        super().__init__(p)
        self.factor = bounds(factor, "factor", 0)

    def parameters(self, rng: np.random.Generator, shape: Sequence[int]) -> Drawn:
        return {"factor": around_one(rng, self.factor, shape[0])}

    def __call__(self, x: Tensor, y: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        mean = x.mean(VOXELS, keepdim=True)
        out = mean + column(drawn["factor"], x) * (x - mean)
        return out.clamp(x.amin(VOXELS, keepdim=True), x.amax(VOXELS, keepdim=True)), y
