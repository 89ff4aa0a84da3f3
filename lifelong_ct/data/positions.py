"""Where organs are in a label map: a bounded sample of their voxels, slab by slab."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

MOST = 2048
"""Voxels kept per set, at most."""
SLAB = 1 << 18
"""Voxels that are looked at at once: an index of all would take eight bytes each."""


def sample(label: np.ndarray, sets: Iterable[Sequence[int]]) -> tuple[list[bytes], list[int]]:
    """Per set of values at most `MOST` voxels, uint16 `[n, 3]`, evenly spread in memory order; and how many there
    are.

    Args:
        label: unsigned integers `[D, H, W]`.
        sets: of values.
    """
    groups, flat = [list(ids) for ids in sets], label.reshape(-1)
    slabs = [flat[start : start + SLAB] for start in range(0, flat.size, SLAB)]
    counts = np.array([np.bincount(slab, minlength=int(flat.max()) + 1) for slab in slabs])
    of_sets = [counts[:, [i for i in ids if i < counts.shape[1]]].sum(axis=1) for ids in groups]
    wanted = [_wanted(each) for each in of_sets]
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in groups]
    for number, slab in enumerate(slabs):
        anywhere = np.flatnonzero(slab)
        values = slab[anywhere]
        for ids, ranks, kept in zip(groups, wanted, found, strict=True):
            if len(ranks[number]):
                inside = values == ids[0] if len(ids) == 1 else np.isin(values, ids)
                kept.append(anywhere[inside][ranks[number]] + number * SLAB)
    places = [np.concatenate(kept) if kept else np.empty(0, np.int64) for kept in found]
    voxels = [np.stack(np.unravel_index(place, label.shape), axis=1) for place in places]
    return [each.astype("<u2").tobytes() for each in voxels], [int(each.sum()) for each in of_sets]


def _wanted(counts: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Which of a set's voxels are kept, by their order in each slab."""
    total, ends = int(counts.sum()), np.cumsum(counts)
    ranks = np.arange(total) if total <= MOST else np.linspace(0, total - 1, MOST).astype(np.int64)
    parts = np.split(ranks, np.searchsorted(ranks, ends[:-1]))
    return [part - before for part, before in zip(parts, ends - counts, strict=True)]
