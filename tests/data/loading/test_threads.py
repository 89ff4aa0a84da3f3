"""Threads: in flight what was asked for, gone at the end, and left alone where they hang."""

import threading
import time

import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.loading.tasks import Buffers, Task
from lifelong_ct.data.loading.threads import ThreadReaders


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith("patches-")]


def readers(read, workers=1, timeout=10.0):
    def make(rows):
        return Buffers(np.zeros((rows, 1), int), np.zeros((rows, 1), int))

    return ThreadReaders(read, make, workers, lambda volume: f"case {volume}", timeout)


def everything(made, count):
    found = []
    while len(found) < count:
        found += made.collect(1.0)
    return found


def test_each_task_is_read_once_into_its_row():
    def read(task, buffers):
        buffers.x[task.row] += 1 + task.volume

    made = readers(read, workers=3)
    batches = [made.buffers(4) for _ in range(10)]
    for step, buffers in enumerate(batches):
        for row in range(4):
            made.submit(Task(step, row, 10 * step + row, (0, 0, 0)), buffers)
    found = everything(made, 40)
    assert sorted((d.task.step, d.task.row) for d in found) == [(s, r) for s in range(10) for r in range(4)]
    assert {done.worker for done in found} <= {0, 1, 2}
    for step, buffers in enumerate(batches):
        assert made.take(buffers)[0][:, 0].tolist() == [1 + 10 * step + row for row in range(4)]
    assert made.reading() == {}
    made.stop()
    assert not running()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), "worker_memory", "no memory left"),
        (ValueError("odd"), "unreadable", "ValueError: odd"),
        (DataError("broken", "volume", "mend it", "store_damaged"), "store_damaged", "broken"),
    ],
)
def test_an_error_names_its_case_and_the_thread_goes_on(error, code, words):
    def read(task, buffers):
        if task.volume == 7:
            raise error

    made = readers(read)
    for row, volume in enumerate((7, 8)):
        made.submit(Task(0, row, volume, (0, 0, 0)), made.buffers(2))
    failed, fine = everything(made, 2)
    assert isinstance(failed.error, DataError)
    assert failed.error.code == code
    assert words in failed.error.what
    assert failed.error.where == ("volume" if code == "store_damaged" else "case 7")
    assert fine.error is None
    made.stop()


def test_what_was_not_begun_is_not_read():
    begun, go = [], threading.Event()

    def read(task, buffers):
        begun.append(task.step)
        go.wait(10)

    made = readers(read)
    for step in range(20):
        made.submit(Task(step, 0, 0, (0, 0, 0)), made.buffers(1))
    while not begun:
        time.sleep(0.001)
    assert made.reading()[0].step == 0
    threading.Timer(0.05, go.set).start()
    made.stop()
    assert begun == [0]
    assert not running()


def test_a_thread_that_hangs_is_not_waited_for():
    go = threading.Event()
    made = readers(lambda task, buffers: go.wait(20), timeout=20.0)
    made.submit(Task(0, 0, 0, (0, 0, 0)), made.buffers(1))
    while not made.reading():
        time.sleep(0.001)
    made.stop(hung=True)
    left = running()
    assert len(left) == 1
    assert left[0].daemon, "it must not keep the process alive"
    go.set()
    left[0].join(10)
    assert not running()


def test_a_thread_that_waits_keeps_no_batch():
    import weakref

    made = readers(lambda task, buffers: None)
    buffers = made.buffers(1)
    made.submit(Task(0, 0, 0, (0, 0, 0)), buffers)
    everything(made, 1)
    time.sleep(0.05)
    kept = weakref.ref(buffers.x)
    del buffers
    assert kept() is None
    made.stop()
