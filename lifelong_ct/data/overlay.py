"""Masks of organs laid over one another, without loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.sides import Midline, split_sides
from lifelong_ct.data.vocabulary import Vocabulary

Mask = npt.NDArray[np.bool_]
Members = tuple[int, ...]
Pair = tuple[str, str]
NOBODY_KNOWS = -1
"""Member of the set of a voxel of which nobody knows what it is."""


class Overlay:
    """An array whose values name sets of organs: those that a voxel lies in.

    A voxel costs one byte, two from the 257th set on; a change touches no more than the box around its mask.

    Args:
        shape: voxels `(D, H, W)`.
        organs: that may lie there.
    """

    def __init__(self, shape: Sequence[int], organs: Sequence[str]) -> None:
        self.organs = tuple(organs)
        self.label: npt.NDArray[Any] = np.zeros(tuple(shape), np.uint8)
        self.sets: list[Members] = [()]
        self._value: dict[Members, int] = {(): 0}

    def value(self, members: Iterable[int]) -> int:
        """The value of a set of organs, given as positions in `organs`."""
        key = tuple(sorted(set(members)))
        if key not in self._value:
            self._value[key] = len(self.sets)
            self.sets.append(key)
            if len(self.sets) == 257:
                self.label = self.label.astype(np.uint16)
        return self._value[key]

    def fill(self, ids: npt.NDArray[Any], members: Callable[[int], Iterable[int]]) -> None:
        """Takes a label map, of which `members` tells the organs of each id."""
        table = np.zeros(1 + int(ids.max(initial=0)), np.uint16)
        for number in np.flatnonzero(count_values(ids).sum(axis=0)).tolist():
            table[number] = self.value(members(number))
        self.label = table.astype(self.label.dtype)[ids]

    def add(self, organs: Iterable[str], mask: Mask) -> None:
        """Lays a mask of one or more organs over what is there."""
        more = [self.organs.index(organ) for organ in organs]
        box = _box(mask)
        if box is not None:
            self._change(box, mask[box], lambda members: (*members, *more))

    def where(self, test: Callable[[set[str]], bool], box: tuple[slice, ...] = ()) -> Mask:
        """Where the set of organs passes a test."""
        passes = [test({self.organs[i] for i in members if i != NOBODY_KNOWS}) for members in self.sets]
        return np.array(passes)[self.label[box]]

    def split(
        self, pairs: Iterable[Pair], affine: npt.NDArray[np.float64], middle: Midline, vocabulary: Vocabulary
    ) -> None:
        """Takes each voxel that lies in both organs of a pair from the one on the other side of the body.

        Pairs that lie in one another are split as one: a kidney's tumour is on the side of its kidney. So it is
        where the kidneys themselves need no splitting.

        Raises:
            ValueError: as `split_sides`, with the organs named.
        """
        for group in _groups([pair for pair in pairs if set(pair) <= set(self.organs)], vocabulary):
            both = self.where(_has_both_of(group))
            tight = _box(both)
            if tight is None:
                continue
            box = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in tight)  # and what it touches
            around = self._around(group, vocabulary)
            known = [self.where(_has_one_of(one), box) for one in around]
            start = box[0].start * float(np.linalg.norm(affine[:3, 0]))
            here = Midline(middle.at - start, middle.doubt, middle.seen)
            told = (known[0] & ~known[1], known[1] & ~known[0])
            try:
                halves = split_sides(
                    both[box], affine, here, told if told[0].any() or told[1].any() else None
                )
            except ValueError as error:
                raise ValueError(f"{' and '.join(group[0])}: {error}") from error
            for half, side in zip(halves, (1, 0), strict=True):
                gone = {self.organs.index(pair[side]): self.organs.index(pair[1 - side]) for pair in group}
                self._change(box, half, _without(gone))

    def profiles(self) -> npt.NDArray[np.int64]:
        """Voxels of each value in each plane across the first axis, `[sets, D]`."""
        return count_values(self.label, len(self.sets)).T

    def _around(self, group: Sequence[Pair], vocabulary: Vocabulary) -> tuple[set[str], set[str]]:
        """Organs of one side that the pairs of a group lie in, left and right."""
        inside = {organ for pair in group for organ in pair}
        sides: tuple[set[str], set[str]] = (set(), set())
        for organ in set(self.organs) - inside:
            for pair in group:
                holds = [vocabulary.contains(organ, one) for one in pair]
                if sum(holds) == 1:
                    sides[holds.index(True)].add(organ)
        return sides

    def _change(self, box: tuple[slice, ...], mask: Mask, change: Callable[[Members], Iterable[int]]) -> None:
        under = self.label[box][mask]
        table = np.zeros(len(self.sets), np.uint16)
        for value in np.flatnonzero(np.bincount(under)).tolist():
            table[value] = self.value(change(self.sets[value]))
        self.label[box][mask] = table[under]


def count_values(label: npt.NDArray[Any], least: int = 0) -> npt.NDArray[np.int64]:
    """Voxels of each value in each plane across the first axis, `[D, values]`; plane by plane, for `bincount`
    makes eight bytes of each voxel."""
    length = max(least, 1 + int(label.max(initial=0)))
    return np.stack([np.bincount(plane.ravel(), minlength=length) for plane in label])


def _box(mask: Mask) -> tuple[slice, ...] | None:
    """The smallest box around a mask; None where it is empty."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask[tuple(box)].any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(found):
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def _groups(pairs: Sequence[Pair], vocabulary: Vocabulary) -> list[list[Pair]]:
    """Pairs that lie in one another, outermost first."""
    groups: list[list[Pair]] = []
    for pair in sorted(pairs, key=lambda pair: len(vocabulary.containers[pair[0]])):
        home = next((g for g in groups if any(vocabulary.contains(one[0], pair[0]) for one in g)), None)
        groups.append([pair]) if home is None else home.append(pair)
    return groups


def _has_both_of(pairs: Sequence[Pair]) -> Callable[[set[str]], bool]:
    return lambda organs: any(organs >= {*pair} for pair in pairs)


def _has_one_of(some: set[str]) -> Callable[[set[str]], bool]:
    return lambda organs: not organs.isdisjoint(some)


def _without(gone: Mapping[int, int]) -> Callable[[Members], Iterable[int]]:
    """Drops the keys of `gone` where their values are members too."""
    return lambda members: (i for i in members if gone.get(i) not in members)
