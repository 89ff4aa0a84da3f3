"""One answer out of those of several decoders."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

_LEAST = 1e-6
"""Confidence of a claim of which nothing is known: a claim all the same."""


def confidence(logits: Tensor) -> Tensor:
    """1 - entropy / log C of the softmax: logits `[B,C,D,H,W]` → float `[B,D,H,W]`, 0 clueless, 1 certain."""
    log_p = logits.float().log_softmax(1)
    return 1 + (log_p.exp() * log_p).sum(1) / math.log(max(2, logits.shape[1]))


def merge(
    answers: Iterable[tuple[Tensor, Sequence[int]]], width: int, within: Mapping[int, Sequence[int]]
) -> Tensor:
    """The most confident decoder decides about each organ, voxel by voxel.

    A voxel is an organ's where the decoder that is likeliest to know, by its entropy, of those that have learnt the
    organ, says so. Where several organs have a voxel the most confident one keeps it, except that an organ inside
    another (a lesion) goes before that: the one was learnt where it is healthy, the other where it is not.

    Args:
        answers: logits `[B,c,D,H,W]` of each decoder, and the channels of the head that they are, background first.
        width: of the head.
        within: channel of an organ → channels of the organs that contain it.

    Returns:
        Scores float `[B,width,D,H,W]`, the largest of which is the answer: at an organ's channel the confidence of its
        decoder, more by 1 for each container that has the voxel too, or 0; at the background's, where no organ has the
        voxel, the least confidence of a decoder, or 0. Held at once: two such tensors and the logits of one decoder.
    """
    scores = best = least = None
    for logits, channels in answers:
        if len(channels) < 2:
            continue
        sure, told = confidence(logits), logits.argmax(1)
        if scores is None or best is None or least is None:
            scores = sure.new_zeros(len(sure), width, *sure.shape[1:])
            best, least = torch.full_like(scores, -1.0), torch.full_like(sure, torch.inf)
        least = torch.minimum(least, sure)
        for row, channel in enumerate(channels[1:], start=1):
            better = sure > best[:, channel]
            claimed = torch.where(told == row, sure.clamp(min=_LEAST), 0.0)
            scores[:, channel] = torch.where(better, claimed, scores[:, channel])
            best[:, channel] = torch.where(better, sure, best[:, channel])
    if scores is None or least is None:
        raise ValueError("no decoder knows an organ")
    claims = scores > 0
    for inner, outer in within.items():
        scores[:, inner] += claims[:, inner] * claims[:, list(outer)].sum(1)
    scores[:, 0] = torch.where(claims.any(1), 0.0, least)
    return scores


def merging_bytes(voxels: int, width: int) -> int:
    """Bytes that `merge` holds for one window: scores, confidences and a decoder's logits, float32."""
    return 3 * 4 * voxels * width
