"""A bounded sample of an organ's voxels: the same however the label map is cut into slabs."""

import tracemalloc

import numpy as np
import pytest

from lifelong_ct.data import positions
from lifelong_ct.data.positions import sample


def by_hand(label, ids):
    """All voxels of the set at once."""
    flat = np.flatnonzero(np.isin(label, ids))
    if len(flat) > positions.MOST:
        flat = flat[np.linspace(0, len(flat) - 1, positions.MOST).astype(np.int64)]
    return np.stack(np.unravel_index(flat, label.shape), axis=1)


@pytest.mark.parametrize("slab", [7, 1000, 1 << 20])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_slabs_are_one_piece(monkeypatch, slab, dtype):
    monkeypatch.setattr(positions, "SLAB", slab)
    label = np.zeros((19, 17, 23), dtype)
    label[2:18, 1:16, 1:22] = 1  # more than are kept
    label[4:9, 3:9, 3:9] = 2
    label[5, 5, 5] = 3
    label[-1, -1, -1] = 200
    sets = [[1], [2], [3], [2, 3], [1, 200], [4], [250], [1, 2, 3, 200]]
    found, totals = sample(label, sets)
    for data, total, ids in zip(found, totals, sets, strict=True):
        np.testing.assert_array_equal(np.frombuffer(data, "<u2").reshape(-1, 3), by_hand(label, ids))
        assert total == np.isin(label, ids).sum()


def test_nothing_is_labelled():
    assert sample(np.zeros((3, 4, 5), np.uint8), [[1], [2, 3]]) == ([b"", b""], [0, 0])


def test_it_holds_little_beside_the_labels():
    label = np.ones((160, 160, 160), np.uint8)
    tracemalloc.start()
    sample(label, [[1], [2]])
    assert tracemalloc.get_traced_memory()[1] < 40 * positions.SLAB < 8 * label.size * 1.5
    tracemalloc.stop()
