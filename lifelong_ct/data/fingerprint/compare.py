"""Whether two fingerprints are of one patient: the same codes at the same distances from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.fingerprint.types import Fingerprint

_FEWEST = 4
_ERROR = 4
"""A differing bit weighs as much as four that agree: copies differ in a twentieth of the bits, strangers in a
third."""
_LEAST_BITS, _LEAST_GAIN = 16, 12
_TOLERANCE = 4.5
"""mm that a key point may be off."""
_MISSED, _MARGIN = 5.0, 14.0
_TRIED = 12


@dataclass(frozen=True)
class Match:
    """How alike two scans are.

    Attributes:
        score: bits that agree, less what disagrees or is missing; copies of a scan lie above `search.threshold`.
        points: key points found in both.
        shared: key points that should be in both, by the smaller of the two counts.
        offset: mm from places in the second to the same in the first, each from its own first voxel.
    """

    score: float = 0.0
    points: int = 0
    shared: int = 0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


def compare(one: Fingerprint, two: Fingerprint, least: float = 0.0) -> Match | None:
    """The best match over all offsets of one against the other.

    Args:
        one, two: of two scans.
        least: score that is asked for.

    Returns:
        None where no offset has four key points in common and that score.
    """
    table = gains(one, np.arange(len(one))[:, None], two, np.arange(len(two)))
    if table.max(axis=1, initial=0).sum() < least:
        return None
    i, j = np.nonzero(table)
    gain = table[i, j].astype(np.float32)
    offsets = one.points[i] - two.points[j]
    near = np.all(np.abs(offsets[:, None] - offsets) <= _TOLERANCE, axis=2)
    sums = near @ gain
    best = None
    for k in np.argsort(-sums, kind="stable")[:_TRIED]:
        if sums[k] < least or (best and sums[k] <= best.score):
            break
        match = _at(one, two, i, j, gain, offsets, np.flatnonzero(near[k]))
        if match.points >= _FEWEST and match.score >= (best.score if best else least):
            best = match
    return best


def gains(
    one: Fingerprint, i: npt.NDArray[np.intp], two: Fingerprint, j: npt.NDArray[np.intp]
) -> npt.NDArray[np.int16]:
    """What pairs of key points speak for, 0 where they are not alike; the indices broadcast."""
    known = one.known[i] & two.known[j]
    bits = np.bitwise_count(known).view(np.int8)
    errors = np.bitwise_count((one.codes[i] ^ two.codes[j]) & known)
    found = bits - np.int16(1 + _ERROR) * errors
    found[(found < _LEAST_GAIN) | (bits < _LEAST_BITS) | (one.bright[i] != two.bright[j])] = 0
    return found


def _at(
    one: Fingerprint,
    two: Fingerprint,
    i: npt.NDArray[np.intp],
    j: npt.NDArray[np.intp],
    gain: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.float32],
    group: npt.NDArray[np.intp],
) -> Match:
    """The match about the middle of a group of pairs."""
    middle = np.average(offsets[group], axis=0, weights=gain[group])
    close = np.flatnonzero(np.linalg.norm(offsets - middle, axis=1) <= _TOLERANCE)
    used_i: set[int] = set()
    used_j: set[int] = set()
    total = 0.0
    for k in close[np.argsort(-gain[close], kind="stable")].tolist():
        if int(i[k]) not in used_i and int(j[k]) not in used_j:
            used_i.add(int(i[k]))
            used_j.add(int(j[k]))
            total += gain[k]
    shared = min(_inside(one.points - middle, two), _inside(two.points + middle, one))
    score = total - _MISSED * max(0, shared - len(used_i))
    x, y, z = (float(v) for v in middle)
    return Match(float(score), len(used_i), max(shared, len(used_i)), (x, y, z))


def _inside(points: npt.NDArray[np.float32], other: Fingerprint) -> int:
    """Points that lie inside a scan, off its border."""
    return int(((points > _MARGIN) & (points < other.extent - _MARGIN)).all(axis=1).sum())
