"""Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lifelong_ct.training.augmentation.transform import Drawn, Transform, bounds, column


class Noise(Transform):
    """x + n, n ~ N(0, std²), the same std in all channels.

    The noise is drawn on the device, from a seed of each sample: equal in distribution on CPU and GPU.

    Args:
        p: probability.
        std: HU, lowest and highest, evenly between.
    """

    def __init__(self, p: float, std: Sequence[float]) -> None:
        super().__init__(p)
        self.std = bounds(std, "std", 0)

    def parameters(self, rng: np.random.Generator, shape: Sequence[int]) -> Drawn:
        return {"std": np.asarray(rng.uniform(*self.std)), "seed": np.asarray(rng.integers(2**62))}

    def __call__(self, x: Tensor, y: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return x + normal(x.shape, drawn["seed"], x.device) * column(drawn["std"], x), y


def normal(shape: Sequence[int], seeds: np.ndarray, device: torch.device) -> Tensor:
    """N(0, 1) of this shape on the device, row i from seed i."""
    rows = [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]
    return torch.stack([torch.randn(tuple(shape[1:]), generator=row, device=device) for row in rows])
