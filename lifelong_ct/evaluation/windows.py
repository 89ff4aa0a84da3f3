"""Where sliding windows lie, and in which order they are visited so that little of their sum has to be held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby, pairwise, product
from typing import NamedTuple

from monai.data.utils import dense_patch_slices

Corner = tuple[int, int, int]
Cell = tuple[int, int]
Box = tuple[slice, slice, slice]
FINEST = 8
"""Cells are no thinner than a window over this, but at the border: at large overlaps they would be many."""


@dataclass(frozen=True)
class Windows:
    """The windows of MONAI's `sliding_window_inference`, and the cells of a volume that are summed and let go as a whole.

    The longest axis is the first, the next longest the second: windows are visited in order of the first, of one place
    there in order of the second. Both axes are cut where windows begin and end. A cell is one piece of either, through
    the whole third axis. It is complete after the last window that reaches into it, so that only the cells where
    consecutive windows overlap wait for the next ones.

    Attributes:
        shape: voxels per axis.
        roi: window, voxels per axis.
        starts: per axis the first voxel of each window; negative where the volume is smaller than the window and lies
            in its middle.
    """

    shape: tuple[int, int, int]
    roi: tuple[int, int, int]
    starts: tuple[tuple[int, ...], ...]

    @classmethod
    def over(cls, shape: Sequence[int], roi: Sequence[int], overlap: float) -> Windows:
        """Windows of `roi` voxels over a volume of `shape`, neighbours with `overlap` of a window in common."""
        starts = []
        for n, r in zip(shape, roi, strict=True):
            padded, before = max(n, r), max(r - n, 0) // 2
            step = r if r == padded else max(1, int(r * (1 - overlap)))
            found = dense_patch_slices([padded], [r], [step])
            starts.append(tuple(int(place.start) - before for (place,) in found))
        return cls((shape[0], shape[1], shape[2]), (roi[0], roi[1], roi[2]), tuple(starts))

    @cached_property
    def axes(self) -> tuple[int, int, int]:
        """The longest first."""
        first, second, third = sorted(range(3), key=lambda axis: -self.shape[axis])
        return first, second, third

    @cached_property
    def order(self) -> list[Corner]:
        """The first voxel of each window, in the order of visits. The last step along the longest axis is often a short
        one; its windows are visited together with those before, where less is held so."""
        first, second, third = self.axes
        place = {start: i for i, start in enumerate(self.starts[first])}
        if len(place) > 2:
            *_, before, last = self.starts[first]
            usual, short = self.starts[first][1] - self.starts[first][0], last - before
            if (usual - short) * self.shape[second] > short * self.roi[second]:
                place[last] = place[before]
        corners = [(d, h, w) for d, h, w in product(*self.starts)]
        return sorted(corners, key=lambda at: (place[at[first]], at[second], at[first], at[third]))

    @cached_property
    def pieces(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The cuts of the first and of the second axis."""
        first, second, _ = self.axes
        return self._cut(first), self._cut(second)

    @cached_property
    def visits(self) -> dict[Cell, int]:
        """Cell → windows that reach into it."""
        firsts, seconds = (
            Counter(share.piece for shares in reach.values() for share in shares) for reach in self._reach[:2]
        )
        along = len(self.starts[self.axes[2]])
        return {(i, j): n * m * along for i, n in firsts.items() for j, m in seconds.items()}

    def shares(self, corner: Corner) -> list[tuple[Cell, Box, Box]]:
        """Cells that a window reaches into, and what they have in common: in the cell, and in the window."""
        first, second, third = (
            reach[corner[axis]] for reach, axis in zip(self._reach, self.axes, strict=True)
        )
        return [
            (
                (a.piece, b.piece),
                self._placed(a.there, b.there, third[0].there),
                self._placed(a.here, b.here, third[0].here),
            )
            for a, b in product(first, second)
        ]

    def box(self, cell: Cell) -> Box:
        """Where a cell lies in the volume."""
        first, second = (pieces[i] for pieces, i in zip(self.pieces, cell, strict=True))
        return self._placed(slice(*first), slice(*second), slice(0, self.shape[self.axes[2]]))

    def seen(self, corner: Corner) -> Box:
        """What a window sees of the volume."""
        d, h, w = (
            slice(max(at, 0), min(at + r, n)) for at, r, n in zip(corner, self.roi, self.shape, strict=True)
        )
        return d, h, w

    @property
    def most_over_a_voxel(self) -> int:
        """No voxel lies in more windows."""
        most = 1
        for axis, starts in enumerate(self.starts):
            most *= max(sum(s <= at < s + self.roi[axis] for s in starts) for at in starts)
        return most

    def voxels(self, cell: Cell) -> int:
        """Of a cell."""
        (a, b), (c, d) = self.pieces[0][cell[0]], self.pieces[1][cell[1]]
        return (b - a) * (d - c) * self.shape[self.axes[2]]

    def _cut(self, axis: int) -> list[tuple[int, int]]:
        n, r = self.shape[axis], self.roi[axis]
        edges = sorted({min(max(at, 0), n) for start in self.starts[axis] for at in (start, start + r)})
        kept = [0]
        for edge in edges:
            if edge - kept[-1] >= max(1, r // FINEST) and edge < n:
                kept.append(edge)
        return list(pairwise([*kept, n]))

    @cached_property
    def _reach(self) -> list[dict[int, list[Share]]]:
        """Of the first, second and third axis: start of a window → what it shares with pieces. The third has one."""
        whole = [(0, self.shape[self.axes[2]])]
        return [
            {start: list(_shared(start, self.roi[axis], pieces)) for start in self.starts[axis]}
            for axis, pieces in zip(self.axes, (*self.pieces, whole), strict=True)
        ]

    def _placed(self, first: slice, second: slice, third: slice) -> Box:
        """Slices of the axes by length, in the order of the volume."""
        at = dict(zip(self.axes, (first, second, third), strict=True))
        return at[0], at[1], at[2]


class Share(NamedTuple):
    """What a window and a piece of an axis have in common."""

    piece: int
    there: slice
    here: slice


def _shared(start: int, size: int, pieces: Sequence[tuple[int, int]]) -> Iterator[Share]:
    for i, (begin, end) in enumerate(pieces):
        low, high = max(start, begin), min(start + size, end)
        if low < high:
            yield Share(i, slice(low - begin, high - begin), slice(low - start, high - start))


@lru_cache(maxsize=4096)
def most_held(shape: tuple[int, int, int], roi: tuple[int, int, int], overlap: float) -> int:
    """Voxels of the cells that are held at once, at most, while windows are summed over a volume."""
    windows = Windows.over(shape, roi, overlap)
    left, live, most = dict(windows.visits), 0, 0
    held: set[Cell] = set()
    for corners in _rows(windows):
        cells = [cell for cell, _, _ in windows.shares(corners[0])]
        live += sum(windows.voxels(cell) for cell in cells if cell not in held)
        held.update(cells)
        most = max(most, live)
        for cell in cells:
            left[cell] -= len(corners)
            if left[cell] == 0:
                live -= windows.voxels(cell)
    return most


def _rows(windows: Windows) -> Iterator[list[Corner]]:
    """Windows that reach into the same cells: they differ along the third axis only."""
    first, second, _ = windows.axes
    for _, row in groupby(windows.order, key=lambda at: (at[first], at[second])):
        yield list(row)
