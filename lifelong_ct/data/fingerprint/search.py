"""Near-duplicates among many fingerprints, in about linear time: scans that share an edge are looked at where it
lays one over the other, and compared in full if more of them agrees there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.fingerprint.compare import Match, compare, gains
from lifelong_ct.data.fingerprint.edges import Edges
from lifelong_ct.data.fingerprint.types import Fingerprint

FEW = 300
"""Up to so many scans every pair is compared."""
_LEAST, _PAIRS, _PER_DOUBLING = 100.0, 1e4, 4.4
_NEAR = 9.0
"""mm about the place that one edge suggests."""


@dataclass(frozen=True)
class Pair:
    """Two scans that are near-duplicates, as positions in the list."""

    first: int
    second: int
    match: Match


def threshold(count: int) -> float:
    """Least score of near-duplicates among so many scans.

    Parts of different patients' scans reached 82 at most in 260,000 pairs. The more pairs, the more is asked of each:
    4.4 with each doubling is a margin that was chosen, not measured.
    """
    pairs = count * (count - 1) / 2
    return _LEAST + _PER_DOUBLING * max(0.0, math.log2(max(pairs, 1.0) / _PAIRS))


def near_duplicates(prints: Sequence[Fingerprint]) -> list[Pair]:
    """Pairs of scans that show the same anatomy of the same patient, ascending."""
    n, least = len(prints), threshold(len(prints))
    pairs = []
    for i, j in _every(n) if n <= FEW else candidates(prints, least):
        match = compare(prints[i], prints[j], least)
        if match is not None:
            pairs.append(Pair(i, j, match))
    return pairs


def candidates(prints: Sequence[Fingerprint], least: float) -> list[tuple[int, int]]:
    """Pairs with an edge in common that reach the score about it, ascending."""
    leads = Edges(prints).leads()
    found: set[tuple[int, int]] = set()
    pairs = zip(leads.first.tolist(), leads.second.tolist(), strict=True)
    for (i, j), offset in zip(pairs, leads.offset, strict=True):
        if (i, j) not in found and _reached(prints[i], prints[j], offset) >= least:
            found.add((i, j))
    return sorted(found)


def _every(n: int) -> Iterable[tuple[int, int]]:
    return ((i, j) for i in range(n) for j in range(i + 1, n))


def _reached(one: Fingerprint, two: Fingerprint, offset: npt.NDArray[np.float32]) -> int:
    """What key points gain that lie near each other with this offset: no match about it has a higher score."""
    there = two.points + offset
    i, j = np.nonzero(np.abs(one.points[:, None, 0] - there[:, 0]) <= _NEAR)
    close = (np.abs(one.points[i] - there[j]) <= _NEAR).all(axis=1)
    i, j = i[close], j[close]
    best = np.zeros(len(one), np.int16)
    np.maximum.at(best, i, gains(one, i, two, j))
    return int(best.sum())
