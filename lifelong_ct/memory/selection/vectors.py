"""Vectors of exemplars on a grid of whole numbers, so that sums of products are exact and the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lifelong_ct.memory.selection import Descriptor

GRID = float(1 << 15)
"""Length of a unit vector."""


def stacked(descriptors: Sequence[Descriptor], members: Sequence[int], name: str) -> np.ndarray:
    """Their vectors of a name, with the largest number of all as `GRID`: whole numbers in float64 `[n,d]`.

    A vector that is missing or has another length than the first counts as 0.
    """
    rows = _rows(descriptors, members, name)
    return np.rint(rows * (GRID / _positive(np.abs(rows).max(initial=0.0))))


def directions(descriptors: Sequence[Descriptor], members: Sequence[int], name: str) -> np.ndarray:
    """Their directions, `GRID` long: whole numbers in float64 `[n,d]`; 0 stays 0. What is missing is 0, as above."""
    rows = _rows(descriptors, members, name)
    grid = np.rint(rows * (GRID / _positive(np.abs(rows).max(1, keepdims=True))))
    return np.rint(grid * (GRID / _positive(np.sqrt((grid * grid).sum(1, keepdims=True)))))


def _rows(descriptors: Sequence[Descriptor], members: Sequence[int], name: str) -> np.ndarray:
    found = [descriptors[i].description.vectors.get(name) for i in members]
    length = max(1, next((len(v) for v in found if v is not None), 0))
    missing = np.zeros(length)
    usable = [missing if v is None or len(v) != length else v for v in found]
    return np.nan_to_num(np.array(usable, dtype=np.float32), posinf=0.0, neginf=0.0).astype(float)


def _positive(values: Any) -> Any:
    return np.where(values > 0, values, 1.0)
