"""What one step of the augmentation is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import LabelSpace

Drawn = Mapping[str, np.ndarray]
"""Parameters by name; of one sample as `draw` makes them, of several stacked along a first axis as they are applied."""
ANISOTROPIC = 3.0
"""Times the finest spacing from which an axis is left alone (nnU-Net's `ANISO_THRESHOLD`)."""


class Transform:
    """Draws parameters on the CPU, so that they are the same whatever the device, and applies them to the samples that
    drew some, all at once.

    Args:
        p: probability that a sample is changed.

    Raises:
        LifelongCTError: it is none.
    """

    def __init__(self, p: float) -> None:
        self.p = number(p, "p", 0, 1)

    def bind(
        self, space: LabelSpace, spacing: Sequence[float] | None, seen: Iterable[Sequence[str]] = ()
    ) -> None:
        """Tells what the voxels are before the first batch.

        Args:
            space: codes of the labels.
            spacing: mm per voxel axis, the median where each scan has its own; None, unknown, counts as isotropic.
            seen: the organs that have a channel after each round.

        Raises:
            LifelongCTError: it cannot serve these organs.
        """

    def draw(self, rng: np.random.Generator, shape: Sequence[int]) -> Drawn | None:
        """Parameters for one sample `[C,D,H,W]`; None where it stays as it is."""
        return self.parameters(rng, shape) if rng.random() < self.p else None

    def parameters(self, rng: np.random.Generator, shape: Sequence[int]) -> Drawn | None:
        """Those of a sample that is changed."""
        raise NotImplementedError

    def __call__(self, x: Tensor, y: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """float32 HU `[n,C,D,H,W]` and codes `[n,1,D,H,W]`, with the parameters of these n samples."""
        raise NotImplementedError


def column(values: np.ndarray, like: Tensor) -> Tensor:
    """`[n]` or `[n,C]` as `[n,1 or C,1,1,1]`, in the type and on the device of a batch."""
    return torch.from_numpy(values.reshape(len(values), -1, 1, 1, 1)).to(like.device, like.dtype)


def around_one(rng: np.random.Generator, bounds: Sequence[float], size: int) -> np.ndarray:
    """Factors of which half are below 1 and half above, evenly on either side (nnU-Net's `BGContrast`)."""
    low, high = bounds
    below = rng.uniform(min(low, 1.0), 1.0, size)
    above = rng.uniform(max(low, 1.0), max(high, 1.0), size)
    return np.where((rng.random(size) < 0.5) & (low < 1), below, above)


def thick_axis(spacing: Sequence[float] | None) -> int | None:
    """The axis along which voxels are more than three times as long as along the finest; None without."""
    if spacing is None or max(spacing) <= ANISOTROPIC * min(spacing):
        return None
    return int(np.argmax(spacing))


def number(value: Any, name: str, low: float, high: float = math.inf) -> float:
    """An argument that must be a number between two others.

    Raises:
        LifelongCTError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        until = f"from {low} on" if high == math.inf else f"from {low} to {high}"
        raise LifelongCTError(f"{name}={value}", "trainer.augment", f"write a number {until}")
    return float(value)


def bounds(value: Any, name: str, low: float, high: float = math.inf) -> tuple[float, float]:
    """An argument that must be [lowest, highest].

    Raises:
        LifelongCTError: it is not.
    """
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not value[0] <= value[1]:
        raise LifelongCTError(f"{name}={value}", "trainer.augment", "write [lowest, highest]")
    return number(value[0], name, low, high), number(value[1], name, low, high)
