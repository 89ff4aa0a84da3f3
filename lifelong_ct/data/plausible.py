"""Numbers that cannot be Hounsfield units, whatever was scanned. What is only odd passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.types import bad_file

FARTHEST = 100_000
"""HU: three times gold's; padding ends at -32768."""
DENSE, DENSEST, MOST_DENSE = 900, 1100, 0.2
"""Bone and metal fill no such share of a scan without a voxel beyond; negated air does."""
CLIPPED, MOST_AT_FLOOR = -500, 0.01
"""Noise spreads the darkest voxels of a scan; where so many are equal and none is air, they were cut off."""
COLDER, MOST_COLDER, MOST_BESIDE_PADDING = -1300, 0.02, 0.1
"""Noise of air ends above; one value below is padding, and where that was resampled a rim of others is beside it."""
HALF_AIR, MOST_HALF_AIR, NO_AIR = (-600, -400), 0.02, -700
"""Where nothing is air, nothing else fills this range: it is air, halved."""
BONE, MOST_BONE, LIGHT, AIR_AT_0, MOST_AIR_AT_0 = 700, 0.1, -200, (-100, 200), 0.05
"""A scan of so much bone without a light voxel is one of flesh at 1024, with air and lungs at 0."""
AIR_AT_1000, MOST_AIR_AT_1000, AIR, LEAST_AIR = (900, 1100), 0.1, (-1100, -700), 0.01
"""Bone is spread wider; what fills this range beside tissue, with a tenth of it beyond and no air, is air, negated."""
TISSUE, LEAST_TISSUE = (-200, 250), 0.005
"""Fat, water, muscle and organs are in every scan of a patient."""
_SAMPLE = 1 << 20


def check_hounsfield(path: Path, voxels: Any, low: float, high: float) -> None:
    """Refuses what was windowed, shifted, scaled, negated, or is no CT.

    Args:
        path: of the file, for errors.
        voxels: finite, first axis of any length.
        low, high: the least and the greatest of them.

    Raises:
        DataError: implausible-hu.
    """
    if max(-low, high) > FARTHEST:
        raise _refused(path, f"its values reach from {low:g} to {high:g}: no material has such HU")
    if low >= 0:
        raise _refused(path, f"its least value is {low:g}: nothing in it is lighter than water")
    if DENSE < high <= DENSEST:
        dense = sum(int(np.count_nonzero(part > DENSE)) for part in voxels)
        if dense > MOST_DENSE * voxels.size:
            what = f"{_percent(dense / voxels.size)} of its voxels are above {DENSE}, none above {high:g}: it is negated"
            raise _refused(path, what)
    if low > CLIPPED:
        floor = sum(int(np.count_nonzero(part == low)) for part in voxels)
        if floor > max(1, MOST_AT_FLOOR * voxels.size):
            what = f"{_percent(floor / voxels.size)} of its voxels are {low:g}, and none is darker: it was clipped"
            raise _refused(path, what)
    for what in _misplaced(_sample(voxels), low):
        raise _refused(path, what)


def _misplaced(some: npt.NDArray[Any], low: float) -> Iterator[str]:
    """What is wrong with where air and tissue lie, from a sample of the voxels."""

    def share(of: npt.NDArray[np.bool_]) -> float:
        return float(of.mean())

    def within(bounds: tuple[int, int]) -> float:
        return share((some >= bounds[0]) & (some <= bounds[1]))

    values, counts = np.unique(some[some < COLDER], return_counts=True)
    if len(values):
        padded = counts.max() / some.size
        rest, most = (
            counts.sum() / some.size - padded,
            MOST_BESIDE_PADDING if padded > MOST_COLDER else MOST_COLDER,
        )
        if rest > most:
            yield f"{_percent(rest)} of its voxels are below {COLDER}, of more than one value: colder than air"
    elif low > NO_AIR and within(HALF_AIR) > MOST_HALF_AIR:
        yield f"{_percent(within(HALF_AIR))} of its voxels are about -500, none below {NO_AIR}: air, halved"
    if low >= LIGHT and share(some > BONE) > MOST_BONE and within(AIR_AT_0) > MOST_AIR_AT_0:
        yield f"{_percent(share(some > BONE))} of its voxels are bone, none is lighter than fat: its air is at 0"
    negated, beyond = within(AIR_AT_1000), share(some > AIR_AT_1000[1])
    body = within(TISSUE)
    if min(negated, body) > max(MOST_AIR_AT_1000, 10 * beyond) and within(AIR) < LEAST_AIR:
        yield f"{_percent(negated)} of its voxels are about 1000, and none is air: it is negated"
    if body < LEAST_TISSUE:
        yield f"{_percent(body)} of its voxels are from {TISSUE[0]} to {TISSUE[1]}: no tissue"


def _sample(voxels: Any) -> npt.NDArray[Any]:
    """About a million voxels of every region."""
    every = max(1, voxels.size // _SAMPLE)
    step = max(1, round(every ** (1 / 2)))
    return np.concatenate([np.asarray(plane[..., ::step, ::step]).ravel() for plane in voxels])


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _refused(path: Path, what: str) -> Exception:
    fix = "export it in HU: slope and intercept applied once, or in the header; neither windowed nor negated"
    return bad_file(path, f"{what} (a CT reaches from about -1000 to over 500)", "implausible-hu", fix)
