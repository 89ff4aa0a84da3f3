"""What makes the numbers of scans comparable: one window of HU, also where a copy is no longer in HU."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

LOW, HIGH = -150.0, 220.0
"""HU beyond these do not count: copies are often clipped there."""
_WINDOW, _AIRY, _SOFT = (-175.0, 250.0), -1000.0, 40.0
"""HU: the usual window of organs; air and soft tissue, for numbers that are no HU."""
_MOST = 1e30
"""Numbers that reach farther are none."""
_PARTS, _FILLS = 200, 0.125
"""Of the range: parts that are counted, and the share that holds half of the tissue."""


def tone(voxels: Any, modality: str) -> tuple[float, float, float, float]:
    """Slope, intercept and window that make voxels comparable: HU as they are, other numbers of a CT as the HU that
    they may have been. A slope of 0 where they are all equal, or not finite."""
    low, high = float(voxels.min()), float(voxels.max())
    if not 0 < high - low < _MOST:
        return 0.0, 0.0, LOW, HIGH
    thin = voxels[::2, ::2, ::2]
    if modality != "CT":
        few, most = np.percentile(thin, [1, 99])
        return (HIGH - LOW) / float(most - few or high - low), 0.0, -np.inf, np.inf
    if low <= -40 and high >= 100:
        return 1.0, 0.0, LOW, HIGH
    if low >= 0 and high > 1500:
        return 1.0, -1024.0, LOW, HIGH
    return (*_guessed(thin, low, high), LOW, HIGH)


def _guessed(voxels: Any, low: float, high: float) -> tuple[float, float]:
    """Slope and intercept of a CT whose numbers are no HU. Where tissue fills the range, they were stretched from the
    usual window of organs; else the least number is air, and the last peak is soft tissue."""
    counts, edges = np.histogram(voxels, _PARTS, (low, high))
    body = np.cumsum(counts[_PARTS // 5 : -4])
    quarter, three = np.searchsorted(body, [0.25 * body[-1], 0.75 * body[-1]])
    smooth = ndimage.uniform_filter1d(counts[4:-4].astype(np.float64), 5)
    if three - quarter > _FILLS * _PARTS or not smooth.any():
        slope = (_WINDOW[1] - _WINDOW[0]) / (high - low)
        return slope, _WINDOW[0] - slope * low
    peaks = np.flatnonzero(smooth > 0.4 * smooth.max())
    last = np.split(peaks, np.flatnonzero(np.diff(peaks) > 1) + 1)[-1]
    slope = (_SOFT - _AIRY) / float(edges[4 + last[np.argmax(smooth[last])]] - low)
    return slope, _AIRY - slope * low
