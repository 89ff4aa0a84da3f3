"""Vectors of exemplars on a grid of whole numbers, so that sums of products are exact and the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lifelong_ct.memory.selection import Descriptor

GRID = float(1 << 15)
"""Length of a unit vector."""


def stacked(descriptors: Sequence[Descriptor], members: Sequence[int], name: str) -> np.ndarray:
    """Their vectors of a name, divided by the largest number and rounded: whole numbers in float64 `[n,d]`.

    A vector that is missing or has another length than the first counts as 0.
    """
    found = [descriptors[i].description.vectors.get(name) for i in members]
    length = next((len(v) for v in found if v is not None), 0)
    rows = np.zeros((len(found), max(length, 1)))
    for row, vector in zip(rows, found):
        if vector is not None and len(vector) == length:
            row[:] = np.nan_to_num(vector)
    largest = np.abs(rows).max(initial=0.0)
    return np.rint(rows / largest * GRID) if largest > 0 else rows


def directions(descriptors: Sequence[Descriptor], members: Sequence[int], name: str) -> np.ndarray:
    """Their directions, `GRID` long: whole numbers in float64 `[n,d]`; 0 stays 0."""
    rows = stacked(descriptors, members, name)
    length = np.sqrt((rows * rows).sum(1, keepdims=True))
    return np.rint(rows * (GRID / np.maximum(length, 1.0)))
