"""Numbers that cannot be Hounsfield units, whatever was scanned. What is only odd passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lifelong_ct.data.types import bad_file

DENSE, DENSEST, MOST_DENSE = 900, 1100, 0.2
"""Bone and metal fill no such share of a scan without a voxel beyond; negated air does."""
CLIPPED, MOST_AT_FLOOR = -500, 0.01
"""Noise spreads the darkest voxels of a scan; where so many are equal and none is air, they were cut off."""


def check_hounsfield(path: Path, voxels: Any, low: float, high: float) -> None:
    """Refuses what was windowed, shifted, negated, or is no CT.

    Args:
        path: of the file, for errors.
        voxels: finite, first axis of any length.
        low, high: the least and the greatest of them.

    Raises:
        DataError: implausible-hu.
    """
    if low >= 0:
        raise _refused(path, f"its least value is {low:g}: nothing in it is lighter than water")
    if DENSE < high <= DENSEST:
        dense = sum(int(np.count_nonzero(part > DENSE)) for part in voxels)
        if dense > MOST_DENSE * voxels.size:
            share = 100 * dense / voxels.size
            what = f"{share:.0f} % of its voxels are above {DENSE}, none above {high:g}: it is negated"
            raise _refused(path, what)
    if low > CLIPPED:
        floor = sum(int(np.count_nonzero(part == low)) for part in voxels)
        if floor > max(1, MOST_AT_FLOOR * voxels.size):
            share = 100 * floor / voxels.size
            raise _refused(
                path, f"{share:.0f} % of its voxels are {low:g}, and none is darker: it was clipped"
            )


def _refused(path: Path, what: str) -> Exception:
    fix = "export it in HU: slope and intercept applied or in the header, neither windowed nor negated"
    return bad_file(path, f"{what} (a CT reaches from about -1000 to over 500)", "implausible-hu", fix)
