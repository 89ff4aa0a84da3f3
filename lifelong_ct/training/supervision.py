"""The loss of the coarser levels of a deeply supervised model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lifelong_ct.models.deep_supervision import DeeplySupervisedModel


def taken(model: nn.Module) -> list[Tensor]:
    """The logits of each coarser level of the passes since the last call, samples of all passes together, fine before
    coarse; none of another model."""
    if not isinstance(model, DeeplySupervisedModel):
        return []
    passes, model.coarse = model.coarse, []
    return [torch.cat(level) if len(level) > 1 else level[0] for level in zip(*passes, strict=True)]


def supervised(
    criterion: Callable[[Tensor, Tensor], Tensor], loss: Tensor, coarse: Sequence[Tensor], y: Tensor
) -> Tensor:
    """Σ 2^-i L_i / Σ 2^-i over the levels, L_0 the loss at full resolution.

    Args:
        criterion: a mean over samples.
        loss: L_0.
        coarse: logits of the levels 1, 2, …, `[n,C,d,h,w]`, n at least the samples of y, which come first.
        y: codes `[B,1,D,H,W]`.
    """
    for i, logits in enumerate(coarse, start=1):
        loss = loss + 0.5**i * criterion(logits[: len(y)], as_coarse(y, logits.shape[2:]))
    return loss / sum(0.5**i for i in range(len(coarse) + 1))


def as_coarse(y: Tensor, grid: Sequence[int]) -> Tensor:
    """Codes of the voxels nearest to the middles of a coarser grid's: `[B,1,D,H,W]` → `[B,1,d,h,w]`."""
    for axis, size in enumerate(grid, start=2):
        middles = (torch.arange(size, device=y.device) + 0.5) * (y.shape[axis] / size)
        y = y.index_select(axis, middles.long())
    return y
