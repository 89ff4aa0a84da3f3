"""Augmentation on the device, batched, in HU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from lifelong_ct.core.errors import LifelongCTError


class Augmentation(Protocol):
    """What changes a batch on the device. One that also has `bind` (see `augmentation.Transform`) is told before the run
    what its voxels and codes are."""

    def __call__(self, x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """int16 HU `[B,C,D,H,W]` and codes `[B,1,D,H,W]` → float32 HU and codes; depends on the seed only."""
        ...


class Augment:
    """Noise, brightness and contrast per sample, and mirroring along axes that are not lateral.

    Args:
        noise: largest standard deviation of Gaussian noise in HU.
        shift: largest brightness shift in HU, either way.
        scale: largest relative change of contrast around 0 HU.
        mirror: voxel axes to mirror with probability ½; 1 is anterior-posterior, 2 superior-inferior. The
            lateral axis 0 would need the labels of the sides swapped.

    Raises:
        LifelongCTError: a negative strength, or axis 0.
    """

    def __init__(
        self, noise: float = 0.0, shift: float = 0.0, scale: float = 0.0, mirror: Sequence[int] = ()
    ) -> None:
        if min(noise, shift, scale) < 0 or not set(mirror) <= {1, 2}:
            raise LifelongCTError(
                f"noise={noise}, shift={shift}, scale={scale}, mirror={list(mirror)}",
                "trainer.augment",
                "use strengths of at least 0 and the axes 1 and 2",
            )
        self.noise, self.shift, self.scale, self.mirror = noise, shift, scale, tuple(mirror)

    def __call__(self, x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """int16 HU, or what stands for it, `[B,C,D,H,W]` and codes `[B,1,D,H,W]` → float32 HU and codes; depends on the seed only."""
        rng = torch.Generator(device=x.device).manual_seed(seed)

        def uniform(low: float, high: float) -> Tensor:
            draw = torch.rand((len(x), 1, 1, 1, 1), generator=rng, device=x.device)
            return low + (high - low) * draw

        out = x.float() * (1 + uniform(-self.scale, self.scale)) + uniform(-self.shift, self.shift)
        out = out + torch.randn(out.shape, generator=rng, device=x.device) * uniform(0.0, self.noise)
        for axis in self.mirror:
            flipped = uniform(0.0, 1.0) < 0.5
            out = torch.where(flipped, out.flip(2 + axis), out)
            y = torch.where(flipped, y.flip(2 + axis), y)
        return out, y
