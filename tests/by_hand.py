"""The loss of partially annotated segmentation from its definition, voxel by voxel, in float64."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

PADDING = "padding"


def candidates(
    label: str | None, annotated: Collection[str], channels: Sequence[str], within: Mapping[str, str]
) -> set[int]:
    """Channels that a voxel with this label may belong to; channel 0 is background."""
    number = {organ: 1 + i for i, organ in enumerate(channels)}
    if label is None:
        unknown = [o for o in channels if o not in annotated and within.get(o) not in annotated]
        return {0, *(number[o] for o in unknown)}
    hidden = [o for o in channels if o not in annotated and within.get(o) == label]
    return {number[o] for o in (label, *hidden)}


def sample_loss(
    logits: Tensor,
    labels: Sequence[str | None],
    annotated: Collection[str],
    channels: Sequence[str],
    within: Mapping[str, str] | None = None,
) -> Tensor:
    """Cross-entropy + soft Dice of one sample: logits `[C, voxels]`, one label (or None) per voxel."""
    p = logits.double().softmax(0)
    voxels = [
        (v, candidates(label, annotated, channels, within or {}))
        for v, label in enumerate(labels)
        if label != PADDING
    ]
    zero = p.sum() * 0
    nll = [-torch.log(p[sorted(allowed), v].sum()) for v, allowed in voxels]
    ce = torch.stack(nll).mean() if nll else zero
    dice = []
    for c in range(1, len(p)):
        inside = [v for v, allowed in voxels if allowed == {c}]
        counted = [v for v, allowed in voxels if allowed == {c} or c not in allowed]
        if inside:
            dice.append(1 - 2 * p[c, inside].sum() / (p[c, counted].sum() + len(inside)))
    return ce + (torch.stack(dice).mean() if dice else zero)
