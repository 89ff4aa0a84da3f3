"""[normalise + backbone + head]: from stored int16 voxels to logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError


class NormaliseHU(nn.Module):
    """HU (int16 or float) → float in [0, 1] by a linear window, clipped. No parameters. The same for every
    channel: what is no CT is stored so that the default window shows it (`data/scales.py`).

    Args:
        window: lower and upper HU; [-175, 250] is SuPreM's abdominal window.
    """

    def __init__(self, window: Sequence[float] = (-175.0, 250.0)) -> None:
        super().__init__()
        low, high = map(float, window)
        if not low < high:
            raise LifelongCTError(
                f"the window {list(window)} is empty", "model.window", "write [low, high] in HU"
            )
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """`[B,C,D,H,W]` in HU → the same shape, float."""
        x = x if x.is_floating_point() else x.float()
        return ((x - self.low) / (self.high - self.low)).clamp(0.0, 1.0)


class GrowingHead(nn.Module):
    """A 1×1×1 convolution whose output rows are appended and never renumbered.

    Args:
        features: input channels.
        width: output channels at the start (1: background only).
    """

    def __init__(self, features: int, width: int = 1) -> None:
        super().__init__()
        fresh = nn.Conv3d(features, width, 1)
        assert fresh.bias is not None
        self.weight, self.bias = fresh.weight, fresh.bias

    @property
    def width(self) -> int:
        """Output channels now."""
        return self.weight.shape[0]

    def grow(self, width: int) -> bool:
        """Appends rows up to `width`; old rows stay bit-equal. True if it grew."""
        extra = width - self.width
        if extra < 0:
            raise ValueError(f"a head of {self.width} channels does not shrink to {width}")
        if extra == 0:
            return False
        fresh = nn.Conv3d(self.weight.shape[1], extra, 1)  # drawn on the CPU: the same on every device
        assert fresh.bias is not None
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), fresh.weight.detach().to(self.weight)]))
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), fresh.bias.detach().to(self.bias)]))
        return True

    def forward(self, x: Tensor) -> Tensor:
        """`[B,F,D,H,W]` → logits `[B,width,D,H,W]`."""
        return nn.functional.conv3d(x, self.weight, self.bias)


class SegmentationModel(nn.Module):
    """Maps stored voxels to logits, so that whoever calls `model(x)` is right.

    Args:
        backbone: a network `[B,C,D,H,W] → [B,features,D,H,W]`, such as MONAI's with
            `out_channels=features`.
        features: its output channels.
        window: see `NormaliseHU`.
    """

    def __init__(self, backbone: nn.Module, features: int, window: Sequence[float] = (-175.0, 250.0)) -> None:
        super().__init__()
        self.normalise = NormaliseHU(window)
        self.backbone = backbone
        self.head = GrowingHead(features)

    def grow(self, width: int) -> bool:
        """Gives the head `width` channels. True if it grew."""
        return self.head.grow(width)

    def forward(self, x: Tensor) -> Tensor:
        """int16 or float `[B,C,D,H,W]`, HU for CT → logits `[B,width,D,H,W]`."""
        return self.head(self.backbone(self.normalise(x)))
