"""Reading parts of a file without leaving anything in the page cache."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

Runs = Sequence[tuple[int, Sequence[memoryview]]]
"""Offset, and the buffers that are filled from there on, one after the other."""
_BLOCK = 4096
"""What offsets, lengths and addresses of direct reads are multiples of."""
_MORE = 1 << 18
"""The memory of a thread grows in steps of so many bytes."""
_DIRECT = getattr(os, "O_DIRECT", 0)
_own = threading.local()


def private_memory(nbytes: int) -> memoryview:
    """Memory outside the heap, which large blocks that come and go would leave full of holes."""
    if hasattr(mmap, "MAP_PRIVATE"):
        return memoryview(mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return memoryview(mmap.mmap(-1, nbytes))


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read a little of: nothing is read ahead, and nothing stays."""
    with open(path, "rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        yield file
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_runs(path: str, runs: Runs) -> None:
    """Fills buffers.

    Past the page cache where the system and the file system can (a third of the CPU time of a read through it),
    else through it, and the pages are given up at once.

    Raises:
        OSError: the file cannot be opened or read.
        EOFError: it ends early.
    """
    if _DIRECT:
        try:
            _through(path, os.O_RDONLY | _DIRECT, _read_direct, runs)
            return
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    _through(path, os.O_RDONLY, _read_buffered, runs)


def _through(
    path: str, flags: int, read: Callable[[int, int, Sequence[memoryview]], None], runs: Runs
) -> None:
    handle = os.open(path, flags)
    try:
        for offset, buffers in runs:
            read(handle, offset, buffers)
    finally:
        os.close(handle)


def _read_direct(handle: int, offset: int, buffers: Sequence[memoryview]) -> None:
    start = offset // _BLOCK * _BLOCK
    end = offset + sum(map(len, buffers))
    blocks = _aligned(-(-end // _BLOCK) * _BLOCK - start)
    if os.preadv(handle, [blocks], start) < end - start:
        raise EOFError
    at = offset - start
    for buffer in buffers:
        buffer[:] = blocks[at : at + len(buffer)]
        at += len(buffer)


def _read_buffered(handle: int, offset: int, buffers: Sequence[memoryview]) -> None:
    want = sum(map(len, buffers))
    advise = getattr(os, "posix_fadvise", None)
    if advise:
        advise(handle, 0, 0, os.POSIX_FADV_RANDOM)
    got = os.preadv(handle, buffers, offset)
    if advise:
        start = offset // _BLOCK * _BLOCK  # a page that is only touched would stay
        advise(handle, start, offset + want + _BLOCK - start, os.POSIX_FADV_DONTNEED)
    if got < want:
        raise EOFError


def _aligned(nbytes: int) -> memoryview:
    """Memory of this thread that begins at a page and is used again and again. It is a shared mapping, since a fork
    in the middle of a direct read may send the data into the wrong copy of a private one (open(2), NOTES), and
    for the same reason no child goes on with it."""
    if getattr(_own, "pid", 0) != os.getpid() or len(_own.memory) < nbytes:
        _own.pid, _own.memory = os.getpid(), memoryview(mmap.mmap(-1, -(-nbytes // _MORE) * _MORE))
    memory: memoryview = _own.memory
    return memory[:nbytes]
