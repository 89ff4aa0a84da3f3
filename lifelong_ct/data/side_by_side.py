"""Work in threads within a number of bytes; results in the order of the work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Job(NamedTuple, Generic[T]):
    """What to do, and the bytes that it takes meanwhile."""

    nbytes: int
    work: Callable[[], T]


def in_order(jobs: Sequence[Job[T]], workers: int = 1, ram: int | None = None) -> Iterator[T]:
    """Results of the jobs, in their order.

    Args:
        jobs: what to do.
        workers: threads.
        ram: bytes that jobs at work may take together; one that takes more works alone. None: any number.
    """
    gate = _Gate(ram)
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        yield from pool.map(gate.through, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


class _Gate:
    def __init__(self, ram: int | None) -> None:
        self._ram, self._used, self._changed = ram, 0, threading.Condition()

    def through(self, job: Job[T]) -> T:
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._fits(job.nbytes))
            self._used += max(1, job.nbytes)
        try:
            return job.work()
        finally:
            with self._changed:
                self._used -= max(1, job.nbytes)
                self._changed.notify_all()

    def _fits(self, nbytes: int) -> bool:
        return self._ram is None or self._used + nbytes <= self._ram
