"""What HU alone can do: one interval per organ, the baseline that a valid phantom must defeat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.types import RawCase

LOW, HIGH, STEP = -200, 400, 5
"""Candidate limits in HU."""


def interval_dice(train: Sequence[RawCase], test: Sequence[RawCase]) -> dict[str, float]:
    """Mean test Dice per organ of the HU interval with the best Dice over all training voxels.

    Args:
        train, test: cases of one hospital with the same annotated organs.
    """
    scores = {}
    for organ in train[0].organs:
        low, high = best_interval(train, organ)
        scores[organ] = float(np.mean([_dice(case, organ, low, high) for case in test]))
    return scores


def best_interval(cases: Sequence[RawCase], organ: str) -> tuple[int, int]:
    """The interval [low, high) in HU whose voxels overlap the organ best, all cases pooled."""
    edges = np.arange(LOW, HIGH + STEP, STEP)
    inside = np.zeros(edges.size - 1)
    everything = np.zeros(edges.size - 1)
    for case in cases:
        everything += np.histogram(case.image, edges)[0]
        inside += np.histogram(case.image[_mask(case, organ)], edges)[0]
    size = sum(int(_mask(case, organ).sum()) for case in cases)
    hits, taken = _sums(inside), _sums(everything)
    dice = np.triu(2 * hits / np.maximum(taken + size, 1), k=1)
    low, high = np.unravel_index(np.argmax(dice), dice.shape)
    return int(edges[low]), int(edges[high])


def _sums(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`[i, j]`: the sum of counts[i:j]."""
    total = np.concatenate([[0.0], np.cumsum(counts)])
    return total[None, :] - total[:, None]


def _dice(case: RawCase, organ: str, low: int, high: int) -> float:
    mask, guess = _mask(case, organ), (case.image >= low) & (case.image < high)
    return float(2 * (mask & guess).sum() / max(int(mask.sum() + guess.sum()), 1))


def _mask(case: RawCase, organ: str) -> npt.NDArray[np.bool_]:
    assert case.label is not None
    return case.label == 1 + case.organs.index(organ)
