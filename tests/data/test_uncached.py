"""Parts of a file against slices of its bytes, past the page cache and through it."""

import errno
import itertools
import os
import threading

import numpy as np
import pytest

from lifelong_ct.data import uncached
from lifelong_ct.data.uncached import read_runs

CONTENT = np.random.default_rng(0).bytes(100_001)


@pytest.fixture(params=["as it is here", "through the cache", "refused when opened", "refused when read"])
def path(request, tmp_path, monkeypatch):
    """A file, on file systems with and without direct reads."""
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    real_open, real_read = os.open, os.preadv
    direct = set()

    def open_(name, flags, *more):
        if flags & uncached._DIRECT:
            if request.param == "refused when opened":
                raise OSError(errno.EINVAL, "no direct reads here")
            direct.add(handle := real_open(name, flags & ~uncached._DIRECT, *more))
            return handle
        return real_open(name, flags, *more)

    def preadv(handle, buffers, offset):
        if handle in direct:
            direct.discard(handle)
            raise OSError(errno.EINVAL, "no direct reads here")
        return real_read(handle, buffers, offset)

    if request.param == "through the cache":
        monkeypatch.setattr(uncached, "_DIRECT", 0)
    elif request.param.startswith("refused"):
        monkeypatch.setattr(os, "open", open_)
        monkeypatch.setattr(os, "preadv", preadv)
    return str(file)


def filled(path, runs):
    """What is read, run by run and buffer by buffer."""
    buffers = [(offset, [memoryview(bytearray(n)) for n in sizes]) for offset, sizes in runs]
    read_runs(path, buffers)
    return [[bytes(view) for view in views] for _, views in buffers]


def test_runs_are_slices_of_the_file(path):
    rng = np.random.default_rng(1)
    runs = [(0, [1]), (4095, [2, 1]), (4096, [4096, 8192]), (100_000, [1]), (0, [100_001])]
    for _ in range(50):
        offset = int(rng.integers(0, 60_000))
        runs.append((offset, [int(n) for n in rng.integers(1, 9000, 4)]))
    for (offset, sizes), found in zip(runs, filled(path, runs)):
        ends = np.cumsum([offset, *sizes])
        assert found == [CONTENT[a:b] for a, b in itertools.pairwise(ends)]


def test_a_file_that_ends_early_is_an_error(path):
    for offset, size in ((100_000, 2), (100_001, 1), (200_000, 10), (99_000, 5000)):
        with pytest.raises(EOFError):
            filled(path, [(offset, [size])])


def test_a_file_that_is_not_there_is_an_error(path):
    with pytest.raises(FileNotFoundError):
        filled(path + "2", [(0, [1])])


def test_threads_do_not_share_their_memory(path):
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(100):
            offset, size = int(rng.integers(0, 50_000)), int(rng.integers(1, 50_000))
            if filled(path, [(offset, [size])]) != [[CONTENT[offset : offset + size]]]:
                wrong.append(offset)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_reads_into_memory_of_its_own(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    filled(str(file), [(0, [5000])])
    before = uncached._aligned(1)
    before[0] = 7
    child = os.fork()
    if child == 0:  # writes nothing that the parent can see
        uncached._aligned(1)[0] = 8
        os._exit(0)
    os.waitpid(child, 0)
    assert before[0] == 7
