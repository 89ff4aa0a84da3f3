"""The store: bytes in memory and on disk, versions, and leases between processes."""

import json
import os
import signal
import threading

import forked
import numpy as np
import pytest
import xxhash
from small_store import IMAGE, LABEL, SHAPE, make, put, size, volumes

from lifelong_ct.core import files
from lifelong_ct.core.errors import DataError, LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import store_format
from lifelong_ct.data.store import OWNER


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
