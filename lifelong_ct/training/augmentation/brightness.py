"""Multiplicative brightness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lifelong_ct.training.augmentation.transform import Drawn, Transform, around_one, bounds, column, number


class Brightness(Transform):
    """level + f (x - level), a factor f per channel.

    nnU-Net multiplies what was brought to mean 0: the level is where that 0 lies.

    Args:
        p: probability.
        factor: lowest and highest f; half of the draws are below 1.
        level: HU that stays as it is; the middle of the model's window.
    """

    def __init__(self, p: float, factor: Sequence[float], level: float = 37.5) -> None:
        super().__init__(p)
        self.factor, self.level = bounds(factor, "factor", 0), number(level, "level", -32768, 32767)

    def parameters(self, rng: np.random.Generator, shape: Sequence[int]) -> Drawn:
        return {"factor": around_one(rng, self.factor, shape[0])}

    def __call__(self, x: Tensor, y: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return self.level + column(drawn["factor"], x) * (x - self.level), y
