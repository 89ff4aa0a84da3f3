"""Reader processes: one owner per volume, small, and gone whatever happens to them or to us."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from stored import alive, children, loader, stuck, volume

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import bricks
from lifelong_ct.data.loading import processes
from lifelong_ct.data.loading.tasks import Task
from lifelong_ct.data.store import VolumeStore

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")


@pytest.fixture
def store(tmp_path):
    made = VolumeStore(tmp_path, Ledger(), 1 << 16)
    yield made
    made.close()


@pytest.fixture
def volumes(store):
    return [volume(store, key) for key in ("aa", "bb", "cc", "dd")]


@pytest.fixture(autouse=True)
def nothing_is_left():
    handles = len(os.listdir("/proc/self/fd"))
    yield
    assert not children()
    gc.collect()  # the traceback of an error has views of the shared memory
    assert len(os.listdir("/proc/self/fd")) <= handles


@contextmanager
def readers(volumes, workers=2, capacity=1 << 20, **more):
    listed = list(enumerate(volumes))
    given = {
        "outside": 255,
        "shape": (2, 1, 12, 12, 12),
        "code_type": "uint8",
        "slots": 3,
        "name": lambda index: f"case {index}",
        "timeout": 20.0,
        "on_use": lambda held: None,
        **more,
    }
    luts = dict.fromkeys(range(len(volumes)), np.arange(3))
    made = processes.ProcessReaders(listed, luts, workers=workers, capacity=capacity, **given)
    try:
        yield made
    finally:
        made.stop()


def read(made, index, step=0):
    """One patch by hand."""
    buffers = made.buffers(2)
    made.submit(Task(step, 0, index, (20, 18, 10)), buffers)
    found = []
    while not found:
        found = made.collect(0.1)
    return found[0], made.take(buffers)


def test_a_worker_is_small_and_knows_no_torch(volumes):
    with readers(volumes) as made:
        for index in range(4):
            assert read(made, index)[0].error is None
        for pid in made.pids:
            status = Path(f"/proc/{pid}/status").read_text()
            anonymous = int(
                next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]
            )
            assert anonymous < 60 * 1024
            loaded = Path(f"/proc/{pid}/maps").read_text()
            assert "blosc2" in loaded
            assert "torch" not in loaded


def test_each_volume_is_cached_by_one_worker_and_all_caches_fit_together(volumes):
    held: list[int] = []
    with readers(volumes, capacity=4 * MIB, on_use=held.append) as made:
        owners = {}
        for step in range(3):
            for index in range(4):
                done, _ = read(made, index, step)
                owners.setdefault(index, set()).add(done.worker)
        assert [len(owner) for owner in owners.values()] == [1] * 4
        assert {next(iter(owner)) for owner in owners.values()} == {0, 1}
    once = sum(v.nbytes for v in volumes)
    assert once / 2 < max(held) < 1.5 * once
    with readers(volumes, capacity=100_000, on_use=held.append) as made:
        held.clear()
        for step in range(4):
            assert read(made, step, step)[0].error is None
    assert max(held) <= 100_000


def test_a_list_of_volumes_longer_than_a_socket_holds_is_no_hang(volumes):
    """It is sent while the worker still imports, which takes longer than a patch may."""
    with readers(volumes * 2000, timeout=0.2) as made:
        assert made.pids


def test_a_closed_volume_is_read_by_no_worker(volumes):
    with readers(volumes) as made:
        assert read(made, 0)[0].error is None
        made.close_volume(0)
        assert isinstance(read(made, 0)[0].error, DataError)
        assert read(made, 1)[0].error is None


def test_what_cannot_be_read_is_told_as_by_a_thread(volumes):
    whole, (_, start) = volumes[1].path.read_bytes(), bricks.read_header(volumes[1].path)
    volumes[1].path.write_bytes(whole[:start] + bytes(len(whole) - start))
    volumes[2].path.unlink()
    with readers(volumes) as made:
        assert read(made, 1)[0].error.code == "store_damaged"
        assert read(made, 2)[0].error.code == "gone"
        assert read(made, 3)[0].error is None


def test_a_volume_that_was_replaced_meanwhile_is_not_taken_for_the_old_one(volumes, store):
    with readers(volumes) as made:
        volume(store, "aa", seed="other")
        assert read(made, 0)[0].error.code == "store_damaged"


@pytest.mark.parametrize(
    ("told", "code", "words"),
    [
        ({"kind": "MemoryError", "text": ""}, "worker_memory", "no memory left"),
        ({"kind": "ValueError", "text": "odd"}, "unreadable", "ValueError: odd"),
        ({"what": "broken", "where": "volume", "fix": "mend", "code": "gone"}, "gone", "broken"),
    ],
)
def test_an_error_that_was_sent_is_the_error_that_it_was(told, code, words):
    error = processes._error(told, "case 7")
    assert isinstance(error, DataError)
    assert error.code == code
    assert words in error.what
    assert error.where == ("volume" if code == "gone" else "case 7")


# --- workers that die or hang ---------------------------------------------------------------------------


def at_work(pid):
    """Has the shared memory, and not as our own copy of just after the fork, which has torch too."""
    loaded = Path(f"/proc/{pid}/maps").read_text()
    return "memfd:patches" in loaded and "torch" not in loaded


def hit(number, wanted=1):
    """Sends a signal to the workers that hang, once they are there."""
    while sum(map(at_work, children())) < wanted:
        time.sleep(0.01)
    time.sleep(0.5)
    for pid in children():
        os.kill(pid, number)


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGKILL, "was killed"), (signal.SIGSEGV, "crashed (SIGSEGV)")]
)
def test_a_worker_that_dies_is_reported_with_its_case(volumes, number, words):
    made = loader(volumes[:1], worker_kind="process", timeout=60.0)
    with stuck(volumes[0]):
        threading.Thread(target=hit, args=(number,)).start()
        with pytest.raises(DataError) as error:
            list(made.batches(0, 4))
    assert error.value.exit_code == 2
    assert error.value.code == "worker_died"
    assert words in error.value.what
    assert error.value.where == f"case {volumes[0].digest}"


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_a_worker_that_hangs_is_reported_with_its_case_in_time(volumes, kind):
    named = ["north 0a", "north 0b", "north 0c", "north 0d"]
    made = loader(volumes, workers=2, worker_kind=kind, timeout=2.0, names=named)
    with stuck(volumes[2]):
        began = time.monotonic()
        with pytest.raises(DataError) as error:
            list(made.batches(0, 50))
        waited = time.monotonic() - began
    assert error.value.code == "worker_hung"
    assert error.value.where == f"case north 0c (content {volumes[2].digest})"
    assert waited >= 2.0
    for thread in threading.enumerate():
        if thread.name.startswith("patches-"):
            thread.join(10)  # the file came back


def test_a_worker_that_cannot_start_says_why(volumes, monkeypatch):
    monkeypatch.setattr(processes, "_START", "raise SystemExit('no room on this machine')")
    made = loader(volumes, worker_kind="process")
    with pytest.raises(LifelongCTError, match="no room on this machine") as error:
        list(made.batches(0, 4))
    assert error.value.exit_code == 2


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from stored import children, loader, stuck
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.store import VolumeStore
store = VolumeStore(Path({root!r}), Ledger(), 1 << 16)
volumes = [store.get(key) for key in ("aa", "bb")]
batches = loader(volumes, batch=1, workers=2, worker_kind="process").batches(0, 9)
with stuck(volumes[1]):
    while True:
        print("workers", *children(), flush=True)
        next(batches)
"""


def test_no_worker_outlives_a_parent_that_is_killed(store, tmp_path):
    """One of them hangs in a read, the other waits for work."""
    for key in ("aa", "bb"):
        volume(store, key)
    tests = str(Path(__file__).resolve().parents[2])
    code = SCRIPT.format(tests=tests, root=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers: list[int] = []
        while len(workers) < 2:
            workers = [int(pid) for pid in parent.stdout.readline().split()[1:]]
        parent.kill()
    deadline = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, workers))
