"""Steps from key point to key point, over many scans: those of copies agree in both codes and in length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.fingerprint.types import Fingerprint

_NEIGHBOURS = 6
_PARTS = (0, 16, 32, 48)
"""First bits of the parts of a code: up to three errors leave one part whole."""
_PART = np.uint64((1 << 16) - 1)
_INDEX = np.uint64(30)
"""Bits for the number of an edge: a thousand million of them."""
_RUN = 64
"""Edges of one bucket that each is paired with: what is in more scans is linked from one to the next."""
_ERRORS, _TOLERANCE = 14, 5.0
"""Bits of both codes of an edge that may differ, and mm that its step may be off."""
_CELL = 8.0
"""mm; offsets of one pair of scans closer than this are told once."""
_BATCH = 256


@dataclass(frozen=True)
class Lead:
    """Pairs of scans with an edge in common, and the offset that it suggests.

    Attributes:
        first, second: int64 `[n]`, positions in the list of scans, the lower one first.
        offset: float32 `[n, 3]`, mm from places in the second to the same in the first.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    offset: npt.NDArray[np.float32]


class Edges:
    """Every step from a key point to the nearest of those before it.

    Args:
        prints: of all scans.
    """

    def __init__(self, prints: Sequence[Fingerprint]) -> None:
        self.count = len(prints)
        sizes = np.array([len(p) for p in prints], np.int64)
        first = np.cumsum(sizes) - sizes
        self.codes = np.concatenate([p.codes for p in prints] or [np.zeros(0, np.uint64)])
        self.points = np.concatenate([p.points for p in prints] or [np.zeros((0, 3), np.float32)])
        bright = np.concatenate([p.bright for p in prints] or [np.zeros(0, bool)])
        starts, ends, owners = [], [], []
        for size in np.unique(sizes[sizes > 1]):
            same = np.flatnonzero(sizes == size)
            for part in np.split(same, range(_BATCH, len(same), _BATCH)):
                rows = first[part][:, None] + np.arange(size)
                one, start, end = _steps(self.points[rows])
                starts.append(rows[one, start].astype(np.int32))
                ends.append(rows[one, end].astype(np.int32))
                owners.append(part[one].astype(np.int32))
        none = [np.zeros(0, np.int32)]
        self.start, self.end, self.owner = (np.concatenate(x or none) for x in (starts, ends, owners))
        self.sign = bright[self.start].astype(np.uint64) << np.uint64(1) | bright[self.end]
        self.step = self.points[self.end] - self.points[self.start]

    def leads(self) -> Lead:
        """What any two scans have in common by any part of the codes of both ends."""
        parts = [self._sharing(a, b) for a, b in product(_PARTS, _PARTS)]
        keys = np.concatenate([key for key, _ in parts])
        offsets = np.concatenate([offset for _, offset in parts])
        cells = np.rint(offsets / _CELL).astype(np.int64) & 1023
        _, once = np.unique(
            np.stack([keys, cells[:, 0] << 20 | cells[:, 1] << 10 | cells[:, 2]], axis=1),
            axis=0,
            return_index=True,
        )
        return Lead(keys[once] // self.count, keys[once] % self.count, offsets[once])

    def _sharing(self, first: int, second: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """By one part of each code: pairs of scans as first × count + second, and offsets."""
        keys = (self.codes[self.start] >> np.uint64(first) & _PART) << np.uint64(18)
        keys |= (self.codes[self.end] >> np.uint64(second) & _PART) << np.uint64(2)
        keys = (keys | self.sign) << _INDEX | np.arange(
            len(keys), dtype=np.uint64
        )  # much faster than argsort
        keys.sort()
        edges = (keys & ((np.uint64(1) << _INDEX) - np.uint64(1))).astype(np.int32)
        keys >>= _INDEX
        at = np.flatnonzero(keys[1:] == keys[:-1])
        one, two = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        for lag in range(1, _RUN + 1):
            if not len(at):
                break
            a, b = self._alike(edges[at], edges[at + lag])
            one.append(a)
            two.append(b)
            at = at[: np.searchsorted(at, len(keys) - lag - 1)]
            at = at[keys[at] == keys[at + lag + 1]]
        return self._pairs(np.concatenate(one), np.concatenate(two))

    def _alike(
        self, one: npt.NDArray[np.int32], two: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Of pairs of edges those of different scans that agree as a whole."""
        errors = np.bitwise_count(self.codes[self.start[one]] ^ self.codes[self.start[two]])
        errors += np.bitwise_count(self.codes[self.end[one]] ^ self.codes[self.end[two]])
        one, two = one[errors <= _ERRORS], two[errors <= _ERRORS]
        close = ((self.step[one] - self.step[two]) ** 2).sum(axis=1) <= _TOLERANCE**2
        close &= self.owner[one] != self.owner[two]
        return one[close], two[close]

    def _pairs(
        self, one: npt.NDArray[np.int32], two: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        swap = self.owner[one] > self.owner[two]
        one, two = np.where(swap, two, one), np.where(swap, one, two)
        keys = self.owner[one].astype(np.int64) * self.count + self.owner[two]
        return keys, self.points[self.start[one]] - self.points[self.start[two]]


def _steps(
    points: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Scan, first and last point of each edge, of scans with equally many points `[b, n, 3]`.

    From each point edges lead to the nearest of those before it: points are in the order of how far each stands
    from a stronger one, so that these are the same in a crop, which has weaker points between them.
    """
    n = points.shape[1]
    squares = (points**2).sum(axis=2)
    apart = squares[:, :, None] + squares[:, None] - 2 * points @ points.swapaxes(1, 2)
    rows, columns = np.triu_indices(n)
    apart[:, rows, columns] = np.inf
    near = min(_NEIGHBOURS, n - 1)
    ends = np.argpartition(apart, near - 1, axis=2)[:, :, :near]
    one, start, which = np.nonzero(ends < np.arange(n)[:, None])
    return one, start, ends[one, start, which]
