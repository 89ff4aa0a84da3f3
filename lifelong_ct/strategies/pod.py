"""Local POD in three dimensions: feature maps seen through pooled strips of windows of several sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool3d, avg_pool3d

Size = tuple[int, int, int]


def windows(
    shape: Sequence[int], patch: Sequence[int], image: Sequence[int], scales: Sequence[int]
) -> list[Size]:
    """Sizes of the windows on a feature map: an s-th of the patch per axis, whatever the image's size, so that a larger
    image has more windows and not larger ones.

    Args:
        shape: `(d, h, w)` of the feature map.
        patch: `(D, H, W)` in voxels that a scale of 1 spans.
        image: `(D, H, W)` in voxels that the feature map stands for.
        scales: s.
    """
    return [
        tuple(  # type: ignore[misc]
            min(n, max(1, size * n // (scale * whole)))
            for n, size, whole in zip(shape, patch, image, strict=True)
        )
        for scale in scales
    ]


def strips(x: Tensor, sizes: Sequence[Size]) -> Iterator[Tensor]:
    """For each window size and axis the strips along the axis: the mean over the two others within each window.

    What is left at the end of an axis and fills no window is left out. In two dimensions (one voxel along an axis)
    the strips along the other two axes are the width- and height-pooled slices of the paper.

    Args:
        x: `[B,F,d,h,w]`.
        sizes: windows `(kd, kh, kw)`.
    """
    for kd, kh, kw in sizes:
        for kernel in ((1, kh, kw), (kd, 1, kw), (kd, kh, 1)):
            yield avg_pool3d(x, kernel, kernel)


def distance(new: Tensor, old: Tensor, sizes: Sequence[Size], seen: Tensor | None = None) -> Tensor:
    """‖Ψ(new²) - Ψ(old²)‖² / ‖Ψ(old²)‖² with Ψ all strips together, the mean over the samples.

    Args:
        new, old: feature maps `[B,F,d,h,w]` of the new and the old model.
        sizes: windows.
        seen: 1 for voxels that count, 0 for padding, float `[B,1,D,H,W]`. A feature counts where one of its voxels does,
            and is 0 in both models elsewhere. None where all count.
    """
    squares = [features.float().square() for features in (new, old)]
    if seen is not None:
        there = adaptive_max_pool3d(seen, new.shape[2:])
        squares = [square * there for square in squares]
    pairs = zip(*(strips(square, sizes) for square in squares), strict=True)
    apart, whole = zip(
        *(((a - b).square().flatten(1).sum(1), b.square().flatten(1).sum(1)) for a, b in pairs)
    )
    return (torch.stack(apart).sum(0) / torch.stack(whole).sum(0).clamp(min=1e-12)).mean()
