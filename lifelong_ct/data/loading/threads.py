"""Readers that are threads: one cache, no copy; decompression runs beside Python."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

import blosc2
import numpy as np

from lifelong_ct.data.loading.tasks import Buffers, Done, Name, Task, failed
from lifelong_ct.data.sampling.policy import Corner

Read = Callable[[Task, Buffers], Corner]


class ThreadReaders:
    """Threads of this process. They are daemons: one that hangs in a system call cannot be ended, and must not
    keep the process alive.

    Args:
        read: reads a task into its buffers and tells the patch's corner; called in the threads.
        make: makes buffers for so many rows.
        workers: threads.
        name: of a case, for errors.
        timeout: seconds that `stop` waits for threads to come back.
    """

    def __init__(
        self, read: Read, make: Callable[[int], Buffers], workers: int, name: Name, timeout: float
    ) -> None:
        blosc2.set_releasegil(True)  # off by default: one brick at a time would be decompressed
        self.buffers, self._read, self._name, self._timeout = make, read, name, timeout
        self._tasks: queue.SimpleQueue[tuple[Task, Buffers] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._at: dict[int, Task] = {}
        self._threads = [
            threading.Thread(target=self._work, args=(worker,), name=f"patches-{worker}", daemon=True)
            for worker in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task, buffers: Buffers) -> None:
        """See `Readers`."""
        self._tasks.put((task, buffers))

    def collect(self, seconds: float) -> list[Done]:
        """See `Readers`."""
        found = []
        with contextlib.suppress(queue.Empty):
            found.append(self._done.get(timeout=seconds))
            while True:
                found.append(self._done.get_nowait())
        return found

    def reading(self) -> dict[int, Task]:
        """See `Readers`."""
        return dict(self._at)

    def take(self, buffers: Buffers) -> tuple[np.ndarray, np.ndarray]:
        """See `Readers`."""
        return buffers.x, buffers.y

    def close_volume(self, index: int) -> None:
        """The volume itself is closed: it is the one that the threads read."""

    def stop(self, hung: bool = False) -> None:
        """See `Readers`."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._tasks.get_nowait()
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + (0 if hung else self._timeout)
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))

    def _work(self, worker: int) -> None:
        while (entry := self._tasks.get()) is not None:
            task, buffers = entry
            self._at[worker] = task
            error: BaseException | None = None
            corner = (0, 0, 0)
            try:
                corner = self._read(task, buffers)
            except BaseException as caught:  # told in the turn of its batch
                error = failed(caught, self._name(task.volume))
                error.__cause__ = caught if error is not caught else caught.__cause__
            del self._at[worker]
            self._done.put(Done(worker, task, error, corner))
            del entry, buffers  # or a thread would keep a batch while it waits
