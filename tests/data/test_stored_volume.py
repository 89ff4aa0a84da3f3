"""An opened volume: what it knows of its organs, what it keeps in the cache, and its end."""

import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import bricks
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import BrickCache, StoredVolume

SHAPE = (10, 9, 8)
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(-1000, 1000, (2, *SHAPE)).astype(np.int16)


def opened(tmp_path, label, organs, overlaps=(), cache=1 << 20, ledger=None):
    path = tmp_path / "aa.lctvol"
    path.write_bytes(bricks.pack(RawCase(IMAGE, label, np.eye(4), organs, overlaps)))
    return StoredVolume("aa", path, BrickCache(cache, ledger or Ledger()))


def test_without_overlaps_the_organs_share_no_voxel(tmp_path):
    label = RNG.integers(0, 3, SHAPE).astype(np.uint8)
    volume = opened(tmp_path, label, ("liver", "spleen", "pancreas"))
    assert volume.voxels == {"liver": (label == 1).sum(), "spleen": (label == 2).sum(), "pancreas": 0}
    assert {organ: volume.count(organ) for organ in volume.organs} == volume.voxels
    assert volume.channels == 2


def test_where_organs_overlap_the_values_of_the_label_share_no_voxel(tmp_path):
    label = RNG.integers(0, 4, SHAPE).astype(np.uint8)  # 3 is both
    volume = opened(tmp_path, label, ("liver", "liver_tumour"), ((0, 1),))
    assert volume.voxels == {f"={value}": (label == value).sum() for value in (1, 2, 3)}
    assert sum(volume.voxels.values()) == (label > 0).sum()
    assert volume.count("liver") == np.isin(label, [1, 3]).sum()
    np.testing.assert_array_equal(volume.positions("=3"), np.argwhere(label == 3))
    np.testing.assert_array_equal(volume.positions("liver_tumour"), np.argwhere(label >= 2))


def test_positions_are_counted_in_the_cache_and_read_once(tmp_path):
    ledger = Ledger()
    label = np.ones(SHAPE, np.uint8)
    volume = opened(tmp_path, label, ("liver",), ledger=ledger)
    volume.positions("liver")
    held = volume.cache.nbytes
    assert held >= 6 * label.size
    assert ledger.peak_used("ram") == held
    volume.path.unlink()
    np.testing.assert_array_equal(volume.positions("liver"), np.argwhere(label))
    assert volume.cache.nbytes == held


def test_a_closed_volume_is_read_by_nobody(tmp_path):
    volume = opened(tmp_path, np.ones(SHAPE, np.uint8), ("liver",))
    volume.read((0, 0, 0), SHAPE)
    volume.positions("liver")
    volume.close()
    for read in (lambda: volume.read((0, 0, 0), (1, 1, 1)), lambda: volume.positions("liver")):
        with pytest.raises(DataError, match="closed: its case has been shown") as error:
            read()
        assert error.value.code == "closed"
        assert volume.digest in error.value.where
        assert "one_pass" in error.value.fix
