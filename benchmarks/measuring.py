"""One loader in a process of its own, asked for patches now and then."""

from __future__ import annotations

import ctypes
import itertools
import logging
import mmap
import multiprocessing as mp
import os
import resource
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.variants import VARIANTS, Patches, Setting


@dataclass(frozen=True)
class Cost:
    """Per patch.

    Attributes:
        cpu, wall: ms; cpu with all threads and children.
        read: bytes that the process asked files for (reads of a memory map are not among them).
        disk: bytes that came from the disk.
    """

    cpu: float
    wall: float
    read: float
    disk: float


class Child:
    """A process that holds one loader. All are forked from a parent that has imported everything, and before it
    has a thread; then they are built one after the other.

    Args:
        name: of the loader, see `variants.VARIANTS`.
        setting: what it is made from.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        self._pipe, theirs = mp.Pipe()
        self._process = mp.get_context("fork").Process(
            target=_serve, args=(theirs, name, setting), daemon=True
        )
        self._process.start()
        theirs.close()
        self._baseline = self._pipe.recv()
        self.peak, self.seconds = 0, 0.0

    def build(self) -> None:
        """Makes the loader."""
        self._pipe.send("build")
        self.seconds = self._answer()

    def measure(self, crops: int, count: int) -> Cost:
        """The cost of the next `count` patches."""
        self._pipe.send((crops, count))
        return Cost(*(x / count for x in self._answer()))

    def look(self) -> None:
        """Keeps the highest anonymous memory above that of the imports."""
        self.peak = max(self.peak, anonymous(self._process.pid or 0) - self._baseline)

    def close(self) -> None:
        """Ends the process. Children forked later hold its pipe open too: it has to be told."""
        self._pipe.send(None)
        self._process.join(timeout=10)

    def _answer(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


@contextmanager
def watched(children: Sequence[Child]) -> Iterator[None]:
    """Looks at the memory of all, ten times a second."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            for child in children:
                child.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def anonymous(pid: int) -> int:
    """Anonymous memory of a process, bytes (none of the loaders has processes of its own)."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return sum(
                int(line.split()[1]) << 10 for line in status if line.startswith(("RssAnon", "RssShmem"))
            )
    except OSError:
        return 0


def cached_pages(files: list[Path]) -> int:
    """Bytes of files that lie in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    total = 0
    for path in files:
        size = path.stat().st_size
        if size == 0:
            continue
        with open(path, "rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
            pages = -(-size // mmap.PAGESIZE)
            here = (ctypes.c_ubyte * pages)()
            address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
            if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), here) == 0:
                total += sum(byte & 1 for byte in here) * mmap.PAGESIZE
    return total


def forget_pages(files: list[Path]) -> None:
    """Takes files out of the page cache."""
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def preload(names: Sequence[str]) -> None:
    """Imports what the loaders need, so that every child has the same."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import monai.data
    import torch

    if any("nnU-Net" in name for name in names):
        import nnunetv2.training.dataloading.data_loader  # noqa: F401

    assert monai.data
    torch.set_num_threads(1)


def _serve(pipe: Connection, name: str, setting: Setting) -> None:
    make: Patches | None = None
    streams: dict[int, Iterator[Any]] = {}
    pipe.send(anonymous(os.getpid()))
    while True:
        try:
            order = pipe.recv()
        except EOFError:  # the parent died
            order = None
        if order is None:
            os._exit(0)  # a background thread of SmartCacheDataset would be waited for
        try:
            if make is None:
                begin = time.perf_counter()
                make = VARIANTS[name](setting)
                pipe.send(time.perf_counter() - begin)
                continue
            crops, count = order
            if crops not in streams:
                streams = {crops: make(crops)}
            before = _counters()
            for _ in itertools.islice(streams[crops], count):
                pass
            pipe.send(tuple(b - a for a, b in zip(before, _counters())))
        except Exception as error:
            pipe.send(f"{name}: {type(error).__name__}: {error}")


def _counters() -> tuple[float, float, float, float]:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() + children.ru_utime + children.ru_stime
    io = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return cpu * 1e3, time.perf_counter() * 1e3, float(io["rchar"]), float(io["read_bytes"])
