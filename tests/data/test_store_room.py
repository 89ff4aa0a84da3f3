"""Room in the store: what nobody uses goes, and a full disk is told."""

import os
import shutil
import subprocess
from pathlib import Path

import forked
import numpy as np
import pytest
from small_store import IMAGE, SHAPE, make, put, size, volumes

from lifelong_ct.core import files
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import leases, store_room

# --- what nobody uses -----------------------------------------------------------------------------------


def age(root: Path, *keys: str) -> None:
    """Gives volumes times of their last use, in this order."""
    for seconds, key in enumerate(keys, start=10**9):
        os.utime(next(root.rglob(f"{key}.lctvol")), (seconds, seconds))


def left_behind(root: Path, *keys: str) -> int:
    """Volumes that no live process uses, the oldest first; bytes of one."""
    store = make(root)
    for key in keys:
        put(store, key)
    one = store.nbytes // len(keys)
    store.close()
    age(root, *keys)
    return one


def test_volumes_that_nobody_uses_make_room_the_oldest_first(tmp_path):
    one = left_behind(tmp_path, "bb", "aa", "cc")
    store = make(tmp_path, quota=3 * one + 9)
    put(store, "dd")
    assert volumes(tmp_path) == ["aa", "cc", "dd"]
    store.get("aa")
    put(store, "ee")
    assert volumes(tmp_path) == ["aa", "dd", "ee"]
    with pytest.raises(LimitExceeded):
        put(store, "ff")
    assert volumes(tmp_path) == ["aa", "dd", "ee"]


def test_a_volume_that_is_used_is_young_again(tmp_path):
    one = left_behind(tmp_path, "aa", "bb")
    reader = make(tmp_path)
    reader.get("aa")
    reader.close()
    put(make(tmp_path, quota=2 * one + 9), "cc")
    assert volumes(tmp_path) == ["aa", "cc"]


def test_without_a_quota_the_limit_of_the_ledger_counts(tmp_path):
    one = left_behind(tmp_path, "aa", "bb")
    ledger = Ledger({"disk": 2 * one + 59})
    ledger.admit("disk", "checkpoints", 50)
    store = make(tmp_path, ledger)
    put(store, "cc")
    assert volumes(tmp_path) == ["bb", "cc"]
    put(store, "dd")
    assert volumes(tmp_path) == ["cc", "dd"]


def test_without_any_limit_nothing_is_deleted(tmp_path):
    left_behind(tmp_path, "aa", "bb")
    put(make(tmp_path), "cc")
    assert volumes(tmp_path) == ["aa", "bb", "cc"]


def test_only_reading_deletes_nothing(tmp_path):
    one = left_behind(tmp_path, "aa", "bb", "cc")
    store = make(tmp_path, quota=2 * one)
    store.get("aa")
    store.get("bb")
    assert volumes(tmp_path) == ["aa", "bb", "cc"]


def test_two_runs_with_different_limits_stay_inside_the_sum(tmp_path):
    """What the other one uses is never deleted, and counts for it alone; what it leaves counts for who comes next."""
    one = size(tmp_path / "s")
    root = tmp_path / "shared"
    large, small = make(root, quota=3 * one), make(root, quota=one)
    for key in ("aa", "bb", "cc"):
        put(large, key)
    put(small, "dd")
    assert volumes(root) == ["aa", "bb", "cc", "dd"]
    for store, key in ((large, "ee"), (small, "ff")):
        with pytest.raises(LimitExceeded):
            put(store, key)
    assert volumes(root) == ["aa", "bb", "cc", "dd"]
    large.close()
    small.evict("dd")
    put(small, "gg")
    assert volumes(root) == ["gg"]


def test_a_killed_run_leaves_nothing_that_counts_for_ever(tmp_path):
    one = size(tmp_path / "s")
    root = tmp_path / "shared"
    for turn in range(3):

        def work(key=f"a{turn}"):
            put(make(root, quota=one + 9), key)
            os._exit(9)

        assert forked.run(work) == 9
        assert volumes(root) == [f"a{turn}"]
    store = make(root, quota=one + 9)
    assert len(list((root / "leases").iterdir())) == 1
    put(store, "bb")
    assert volumes(root) == ["bb"]


# --- a full disk ----------------------------------------------------------------------------------------


def no_space(*args):
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_told_with_the_bytes_that_are_missing(tmp_path, monkeypatch):
    one = size(tmp_path / "s")
    store = make(tmp_path / "x", quota=10 * one)
    put(store, "aa")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", no_space)
        patch.setattr(store_room.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1000))
        with pytest.raises(LifelongCTError, match="disk of the volume store is full") as error:
            put(store, "bb")
    assert f"{one - 1000} bytes are missing" in error.value.what
    assert str(tmp_path / "x") in error.value.where
    assert "mounted at /" in error.value.where
    assert store.nbytes == one
    np.testing.assert_array_equal(make(tmp_path / "x").get("aa").read((0, 0, 0), SHAPE)[0], IMAGE)
    put(store, "bb")


def test_a_full_disk_takes_back_what_nobody_uses_first(tmp_path, monkeypatch):
    left_behind(tmp_path, "aa", "bb", "cc")
    store = make(tmp_path)
    store.get("aa")
    real = os.fsync

    def full_until_something_leaves(handle):
        if "bb" in volumes(tmp_path):
            no_space()
        real(handle)

    monkeypatch.setattr(files.os, "fsync", full_until_something_leaves)
    put(store, "dd")
    assert volumes(tmp_path) == ["aa", "cc", "dd"]


def test_a_lease_that_does_not_fit_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    store = make(tmp_path)
    put(store, "aa")
    with monkeypatch.context() as patch:
        patch.setattr(leases.os, "pwrite", no_space)
        with pytest.raises(LifelongCTError, match="full"):
            put(store, "bb")
    assert store._leases.path.read_text().split() == ["aa"]
    assert volumes(tmp_path) == ["aa"]
    other = make(tmp_path)
    other.evict("aa")
    assert volumes(tmp_path) == ["aa"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB of its own."""
    root = tmp_path / "disk"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield root
    subprocess.run(["umount", "--lazy", str(root)], check=True)


def test_a_disk_that_is_really_full(small_disk):
    store = make(small_disk / "store")
    held = []
    with pytest.raises(LifelongCTError, match=r"full: \d+ bytes are missing") as error:
        held.extend(put(store, f"a{i:x}") for i in range(100))
    assert f"mounted at {small_disk}" in error.value.where
    missing = int(error.value.what.split("full: ")[1].split()[0])
    one = store.nbytes // len(held)
    assert 5 < len(held) < 15
    assert 0 < missing <= one
    assert volumes(small_disk) == sorted(volume.key for volume in held)
    for volume in held:
        np.testing.assert_array_equal(volume.read((0, 0, 0), SHAPE)[0], IMAGE)
    store.evict(held[0].key)
    put(store, "ff")
    store.close()
    again = make(small_disk / "store", quota=10**9)  # whose limit the disk does not have
    put(again, "ee")
    assert "ee" in volumes(small_disk)
