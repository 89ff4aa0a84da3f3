"""MONAI's transforms, for what the batched ones do not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.transforms import Compose
from torch import Tensor

from lifelong_ct.core.seeding import derive_seed


class PerSample:
    """Transforms of MONAI, one sample after another, on the device: its random transforms draw once per call.

    Args:
        transforms: of dictionaries with `image`, float32 HU `[C,D,H,W]`, and `label`, codes as float32 `[1,D,H,W]`: what
            moves voxels must take the label along by `nearest` and fill it with 255. Those that make several samples of
            one are none.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = Compose(list(transforms))

    def __call__(self, x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """int16 HU `[B,C,D,H,W]` and codes `[B,1,D,H,W]` → float32 HU and codes."""
        images, labels = [], []
        for i in range(len(x)):
            self.transforms.set_random_state(seed=derive_seed("augment", seed, i) % 2**32)
            out = self.transforms({"image": x[i].float(), "label": y[i].float()})
            images.append(torch.as_tensor(out["image"]).as_subclass(Tensor))
            labels.append(torch.as_tensor(out["label"]).as_subclass(Tensor).round())
        return torch.stack(images), torch.stack(labels).to(y.dtype)
