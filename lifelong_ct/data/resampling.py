"""A case on another spacing, slab by slab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from lifelong_ct.data.types import RawCase

SLAB = 1 << 21
"""Voxels that are float32 at once, about."""


def prepare(raw: RawCase, spacing: Sequence[float] | None) -> RawCase:
    """A case on another spacing: image linear, label nearest.

    The corners of the volume stay where they are; the number of voxels per axis is rounded, so that the
    spacing is met to half a voxel over the whole extent.

    Args:
        raw: the case on its own grid.
        spacing: mm per axis; None changes nothing.
    """
    if spacing is None:
        return raw
    old = raw.shape
    new = new_shape(old, raw.spacing, spacing)
    if new == old:
        return raw
    channels = [linear(channel, new) for channel in raw.image.reshape(-1, *old)]
    image = np.stack(channels) if raw.image.ndim == 4 else channels[0]
    label = None if raw.label is None else nearest(raw.label, new)
    factor = np.array(old) / np.array(new)
    grid = np.diag([*factor, 1.0])
    grid[:3, 3] = (factor - 1) / 2  # the first new centre, in old voxels
    return replace(raw, image=image, label=label, affine=raw.affine @ grid)


def new_shape(shape: Sequence[int], old: Sequence[float], new: Sequence[float]) -> tuple[int, int, int]:
    """Voxels per axis of a grid on another spacing (mm per axis)."""
    d, h, w = (max(1, round(n * s / t)) for n, s, t in zip(shape, old, new, strict=True))
    return d, h, w


def linear(image: npt.NDArray[np.int16], shape: tuple[int, int, int]) -> npt.NDArray[np.int16]:
    """int16 `[D, H, W]` by linear interpolation, equal to the last bit to one call of torch's trilinear
    `interpolate`, which computes W, then H, then D as well, but holds everything in float32.

    In between it holds float32 `[D, H', W']` and a slab.
    """
    source = torch.from_numpy(image)
    (d, h, w), (new_d, new_h, new_w) = image.shape, shape
    between = torch.empty((d, new_h, new_w))
    step = max(1, SLAB // max(h * w, new_h * new_w))
    for i in range(0, d, step):
        part = source[i : i + step].float()
        between[i : i + step] = _interpolate(part, (len(part), new_h, new_w))
    out = torch.empty(shape, dtype=torch.int16)
    step = max(1, SLAB // (max(d, new_d) * new_w))
    for i in range(0, new_h, step):
        part = between[:, i : i + step]
        out[:, i : i + step] = _interpolate(part, (new_d, part.shape[1], new_w)).round_()
    return out.numpy()


def between_bytes(old: Sequence[int], new: Sequence[int]) -> int:
    """What `linear` holds beside what it takes and gives, without its slabs.

    Args:
        old, new: voxels per axis.
    """
    return 4 * old[0] * new[1] * new[2]


def nearest(label: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Integers `[D, H, W]` by the nearest voxel."""
    for axis, (n, m) in enumerate(zip(shape, label.shape, strict=True)):
        if n != m:
            picks = np.minimum(((np.arange(n) + 0.5) * m / n).astype(np.int64), m - 1)
            label = np.take(label, picks, axis)
    return label


def _interpolate(part: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    return torch.nn.functional.interpolate(
        part[None, None], size=size, mode="trilinear", align_corners=False
    )[0, 0]
