"""Locked lists of keys, one per live process, and who makes a volume."""

import threading

import pytest

from lifelong_ct.data import leases as module
from lifelong_ct.data.leases import Leases


def in_another_thread(work) -> threading.Thread:
    """Runs `work` until it ends or waits for a lock of this thread."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout=0.5)
    return thread


def others(leases: Leases) -> set[str]:
    with leases.locked():
        return leases.of_others()


def test_a_lease_is_seen_by_others_until_it_is_closed(tmp_path):
    mine, other = Leases(tmp_path), Leases(tmp_path)
    with mine.locked():
        for key in ("aa", "bb", "cc"):
            mine.add(key)
    assert others(other) == {"aa", "bb", "cc"}
    assert others(mine) == set()
    with mine.locked():
        mine.replace(["bb"])
        mine.add("dd")
    assert others(other) == {"bb", "dd"}
    mine.close()
    mine.close()
    assert others(other) == set()
    assert [path.name for path in (tmp_path / "leases").iterdir()] == [other.path.name]
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == [other.path.name]


@pytest.mark.parametrize("written", [0, 2])
def test_a_key_that_could_not_be_written_is_not_in_the_list(tmp_path, monkeypatch, written):
    mine, other = Leases(tmp_path), Leases(tmp_path)
    real = module.os.pwrite

    def full(handle, data, offset):
        if not written:
            raise OSError(28, "No space left on device")
        return real(handle, data[:written], offset)

    with mine.locked():
        mine.add("aaaa")
        with monkeypatch.context() as patch:
            patch.setattr(module.os, "pwrite", full)
            with pytest.raises(OSError, match="No space left"):
                mine.add("bbbb")
        mine.add("cccc")
    assert others(other) == {"aaaa", "cccc"}


def test_a_lease_that_vanishes_meanwhile_is_no_lease(tmp_path):
    mine = Leases(tmp_path)
    (tmp_path / "leases" / "closed").symlink_to(tmp_path / "nowhere")
    assert others(mine) == set()


def test_a_lease_is_never_read_half_written(tmp_path, monkeypatch):
    mine, other = Leases(tmp_path), Leases(tmp_path)
    seen, threads = [], []
    real = module.os.ftruncate

    def other_looks_meanwhile(handle, length):
        threads.append(in_another_thread(lambda: seen.append(others(other))))
        real(handle, length)

    monkeypatch.setattr(module.os, "ftruncate", other_looks_meanwhile)
    with mine.locked():
        mine.add("aaaa")
        mine.add("bbbb")
        mine.replace(["bbbb"])
    threads.pop().join()
    assert seen == [{"bbbb"}]


def test_a_lease_that_is_being_made_is_not_taken_for_a_dead_one(tmp_path, monkeypatch):
    other = Leases(tmp_path)
    threads, seen = [], []
    real = module.fcntl.flock

    def other_looks_first(file, how):
        if threading.current_thread() is threading.main_thread() and isinstance(file, int):
            threads.append(in_another_thread(lambda: seen.append(others(other))))
        real(file, how)

    monkeypatch.setattr(module.fcntl, "flock", other_looks_first)
    new = Leases(tmp_path)
    for thread in threads:
        thread.join()
    assert seen == [set()]
    assert new.path.exists()


def test_one_claims_a_volume_at_a_time(tmp_path):
    one, two = Leases(tmp_path), Leases(tmp_path)
    order = []

    def second():
        with two.claim("abc"):
            order.append("second")

    with one.claim("abc"):
        waiting = in_another_thread(second)
        with two.claim("def"):
            order.append("other key")
        order.append("first")
    waiting.join()
    assert order == ["other key", "first", "second"]


def test_who_is_stopped_or_has_waited_long_claims_no_more(tmp_path, monkeypatch):
    one, two = Leases(tmp_path), Leases(tmp_path)
    with one.claim("abc"):
        with two.claim("abc", lambda: True):
            pass
        monkeypatch.setattr(module, "_PATIENCE", 0.0)
        with two.claim("abc"):
            pass
