"""The store: limits, eviction and leases between processes."""

import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import forked
import numpy as np
import pytest
import xxhash

from lifelong_ct.core import files
from lifelong_ct.core.errors import DataError, LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import leases, store_format, store_room
from lifelong_ct.data.store import OWNER, VolumeStore
from lifelong_ct.data.types import RawCase

SHAPE = (40, 33, 35)
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(-1000, 1000, (1, *SHAPE)).astype(np.int16)
LABEL = RNG.integers(0, 2, SHAPE).astype(np.uint8)


def make(root: Path, ledger: Ledger | None = None, cache: int = 1 << 20, **more) -> VolumeStore:
    return VolumeStore(root, ledger or Ledger(), cache, **more)


def put(store: VolumeStore, key: str, image=IMAGE):
    return store.put(key, RawCase(image, LABEL, np.eye(4), ("liver",)))


def volumes(root: Path) -> list[str]:
    return sorted(path.stem for path in root.rglob("*.lctvol"))


def size(root: Path) -> int:
    store = make(root / "probe")
    put(store, "aa")
    return store.nbytes


def in_another_thread(work) -> threading.Thread:
    """Runs `work` until it ends or waits for a lock of this thread."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout=0.5)
    return thread


# --- bytes in memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 2])
def test_the_cache_gives_the_same_voxels_within_its_bytes(tmp_path, share):
    compressed = size(tmp_path)
    ledger = Ledger()
    capacity = int(share * compressed)
    store = make(tmp_path, ledger, capacity)
    volume = put(store, "aa")
    rng = np.random.default_rng(1)
    for _ in range(30):
        start = tuple(int(rng.integers(0, n - 8)) for n in SHAPE)
        box = tuple(slice(s, s + 8) for s in start)
        np.testing.assert_array_equal(volume.read(start, (8, 8, 8))[0], IMAGE[(slice(None), *box)])
        assert store.cache.nbytes <= capacity
    assert ledger.holders("ram") == {"brick cache": capacity}
    assert ledger.peak_used("ram") <= ledger.peak("ram") == capacity
    assert (ledger.peak_used("ram") > 0) == (share > 0)


def test_a_cached_brick_is_not_read_again(tmp_path):
    store = make(tmp_path)
    volume = put(store, "aa")
    volume.read((0, 0, 0), SHAPE)
    next(tmp_path.rglob("*.lctvol")).unlink()
    np.testing.assert_array_equal(volume.read((0, 0, 0), SHAPE)[0], IMAGE)


def test_a_cache_beyond_the_limit_is_refused(tmp_path):
    with pytest.raises(LimitExceeded, match="brick cache"):
        make(tmp_path, Ledger({"ram": 10}), 11)


# --- bytes on disk --------------------------------------------------------------------------------------


def test_a_quota_is_reserved_at_once_and_says_what_is_held(tmp_path):
    one = size(tmp_path)
    ledger = Ledger({"disk": 10 * one})
    store = make(tmp_path / "s", ledger, quota=2 * one + 5)
    assert ledger.holders("disk") == {OWNER: 2 * one + 5}
    put(store, "aa")
    put(store, "bb")
    with pytest.raises(LimitExceeded) as error:
        put(store, "cc")
    assert f"{OWNER} {2 * one / 1024:.1f} KiB" in error.value.where
    assert f"by at least {one - 5} bytes" in error.value.fix
    assert volumes(tmp_path / "s") == ["aa", "bb"]
    assert store.nbytes == ledger.peak_used("disk") == 2 * one
    store.evict("aa")
    put(store, "cc")
    assert volumes(tmp_path / "s") == ["bb", "cc"]


def test_without_a_quota_each_volume_asks_the_ledger(tmp_path):
    one = size(tmp_path)
    ledger = Ledger({"disk": one + 100})
    ledger.admit("disk", "checkpoints", 60)
    store = make(tmp_path / "s", ledger)
    put(store, "aa")
    with pytest.raises(LimitExceeded, match=OWNER) as error:
        put(store, "bb")
    assert "checkpoints 60 B" in error.value.where
    assert ledger.holders("disk")[OWNER] == one
    store.evict("aa")
    assert ledger.holders("disk")[OWNER] == 0
    assert not volumes(tmp_path / "s")


def test_a_volume_of_an_earlier_run_counts_when_it_is_used(tmp_path):
    one = size(tmp_path)
    first = make(tmp_path / "s")
    put(first, "aa")
    put(first, "bb")
    first.close()
    second = make(tmp_path / "s", quota=one)
    assert second.has("aa")
    assert second.nbytes == 0
    np.testing.assert_array_equal(second.get("aa").read((0, 0, 0), SHAPE)[1], LABEL)
    second.get("aa")
    assert second.nbytes == one
    with pytest.raises(LimitExceeded):
        second.get("bb")
    second.close()
    assert volumes(tmp_path / "s") == ["aa", "bb"]
    assert not list((tmp_path / "s" / "leases").iterdir())


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_no_file_and_no_bytes(tmp_path, monkeypatch, failing):
    ledger = Ledger({"disk": 1 << 20})
    store = make(tmp_path, ledger)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, failing, full)
        with pytest.raises(LifelongCTError, match="No space left"):
            put(store, "aa")
    assert not store.has("aa")
    assert store.nbytes == ledger.held("disk") == 0
    assert not volumes(tmp_path)
    assert not list(store._leases.scratch.iterdir())
    put(store, "aa")
    assert store.has("aa")


def test_a_writer_that_is_killed_leaves_no_volume(tmp_path):
    def work():
        files.os.replace = lambda *args: os._exit(9)
        put(make(tmp_path), "aa")

    make(tmp_path).close()
    assert forked.run(work) == 9
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    store = make(tmp_path)
    assert not store.has("aa")
    for folder in ("leases", "scratch"):
        assert [path.name for path in (tmp_path / folder).iterdir()] == [store._leases.path.name]


def test_a_new_volume_of_an_old_name_is_read_anew(tmp_path):
    store = make(tmp_path)
    put(store, "aa").read((0, 0, 0), SHAPE)
    again = put(store, "aa", IMAGE + 1)
    np.testing.assert_array_equal(again.read((0, 0, 0), SHAPE)[0], IMAGE + 1)


def test_a_damaged_volume_is_replaced_by_a_new_one(tmp_path):
    store = make(tmp_path, cache=0)
    volume = put(store, "aa")
    path = next(tmp_path.rglob("*.lctvol"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-2000] + bytes(1) + whole[-1999:])
    with pytest.raises(DataError, match="aa is damaged"):
        [volume.read((0, 0, 0), SHAPE), volume.positions("liver")]
    put(store, "aa")
    assert path.read_bytes() == whole


def test_a_root_that_cannot_be_a_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LifelongCTError, match="cannot write"):
        make(tmp_path / "file" / "store")


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


# --- versions -------------------------------------------------------------------------------------------


def test_a_store_of_a_newer_version_is_refused(tmp_path):
    make(tmp_path).close()
    marker = {"format": store_format.FORMAT + 1, "by": "9.8.7"}
    text = json.dumps({**marker, "checksum": store_format._checksum(marker)})
    (tmp_path / "format.json").write_text(text)
    with pytest.raises(LifelongCTError, match=rf"9\.8\.7 in format {store_format.FORMAT + 1}") as error:
        make(tmp_path)
    assert "update lifelong-ct" in error.value.fix
    assert (tmp_path / "format.json").read_text() == text
    assert not list((tmp_path / "leases").iterdir())


def test_a_store_of_an_older_version_is_taken_over(tmp_path):
    make(tmp_path).close()
    marker = {"format": store_format.FORMAT - 1, "by": "0.0.1"}
    new = (tmp_path / "format.json").read_text()
    (tmp_path / "format.json").write_text(json.dumps({**marker, "checksum": store_format._checksum(marker)}))
    make(tmp_path)
    assert (tmp_path / "format.json").read_text() == new


def test_a_marker_with_a_flipped_bit_refuses_nobody(tmp_path):
    make(tmp_path).close()
    whole = (tmp_path / "format.json").read_bytes()
    for i in range(0, 8 * len(whole), 5):
        data = bytearray(whole)
        data[i // 8] ^= 1 << i % 8
        (tmp_path / "format.json").write_bytes(data)
        store_format.claim_folder(tmp_path)
        assert json.loads((tmp_path / "format.json").read_bytes()) == json.loads(whole)


def test_a_volume_of_a_newer_version_is_refused_and_a_flipped_bit_is_damage(tmp_path):
    """The first 24 bytes are promised to every version: magic, length, xxh3-64 of both and of the header."""
    store = make(tmp_path)
    put(store, "aa")
    path = next(tmp_path.rglob("*.lctvol"))
    whole = path.read_bytes()
    length = int.from_bytes(whole[8:16], "little")
    for magic, signed, code in (
        (b"LCTVOL98", True, "newer_store"),
        (b"LCTVOL98", False, "store_damaged"),
        (b"LCTVOX98", True, "store_damaged"),
    ):
        start = magic + whole[8:16]
        check = xxhash.xxh3_64_digest(start + whole[24 : 24 + length]) if signed else whole[16:24]
        path.write_bytes(start + check + whole[24:])
        with pytest.raises(DataError) as error:
            store.get("aa")
        assert error.value.code == code
        assert ("format 98" in error.value.what) == (code == "newer_store")


# --- leases ---------------------------------------------------------------------------------------------


def test_what_another_store_uses_is_given_up_but_not_deleted(tmp_path):
    first, second = make(tmp_path), make(tmp_path)
    put(first, "aa")
    volume = second.get("aa")
    first.evict("aa")
    assert first.nbytes == 0
    np.testing.assert_array_equal(volume.read((0, 0, 0), SHAPE)[0], IMAGE)
    second.evict("aa")
    assert not volumes(tmp_path)


def test_a_live_process_keeps_its_volumes_and_a_killed_one_does_not(tmp_path):
    store = make(tmp_path)
    put(store, "aa")
    reading, writing = os.pipe()

    def hold():
        kept = make(tmp_path).get("aa")
        os.write(writing, b"!")
        signal.pause()
        assert kept

    other = forked.start(hold)
    try:
        assert os.read(reading, 1) == b"!"
        store.evict("aa")
        assert volumes(tmp_path) == ["aa"]
        assert len(list((tmp_path / "leases").iterdir())) == 2
    finally:
        os.kill(other, signal.SIGKILL)
        assert forked.ended(other) == -signal.SIGKILL
    store.get("aa")
    store.evict("aa")
    assert not volumes(tmp_path)
    assert len(list((tmp_path / "leases").iterdir())) == 1


def put_often(root):
    store = make(root)
    for _ in range(15):
        volume = put(store, "aa")
        np.testing.assert_array_equal(volume.read((0, 0, 0), SHAPE)[0], IMAGE)
    store.close()


def test_two_processes_that_put_the_same_volume_do_not_disturb_each_other(tmp_path):
    both = [forked.start(lambda: put_often(tmp_path)) for _ in range(2)]
    assert [forked.ended(child) for child in both] == [0, 0]
    assert os.listdir(tmp_path / "aa") == ["aa.lctvol"]
    np.testing.assert_array_equal(make(tmp_path).get("aa").read((0, 0, 0), SHAPE)[0], IMAGE)


def test_threads_that_read_a_volume_get_the_same_voxels(tmp_path):
    store = make(tmp_path, cache=size(tmp_path / "s") // 2)
    volume = put(store, "aa")
    wrong = []

    def read():
        for _ in range(10):
            if not np.array_equal(volume.read((0, 0, 0), SHAPE)[0], IMAGE):
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.cache.nbytes <= store.cache.capacity
