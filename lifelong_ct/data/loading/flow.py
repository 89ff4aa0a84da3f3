"""Batches in order, from workers that read ahead in any order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.loading.tasks import Buffers, Done, Name, Readers, Task
from lifelong_ct.data.sampling.policy import Corner
from lifelong_ct.data.sampling.sampler import Draw

TICK = 0.1
"""Seconds between two looks at the workers."""
HUNG = "worker_hung"
"""Code of the error about a worker that does not come back."""


class Ready(NamedTuple):
    """A batch: its number, what was drawn, where each patch begins, int16 `x` `[B,C,D,H,W]`, codes `y` `[B,1,D,H,W]`."""

    step: int
    draws: Sequence[Draw]
    corners: Sequence[Corner]
    x: np.ndarray
    y: np.ndarray


class _Pending:
    def __init__(self, step: int, draws: Sequence[Draw], buffers: Buffers) -> None:
        self.step, self.draws, self.buffers = step, draws, buffers
        self.left = len(draws)
        self.corners: list[Corner] = [(0, 0, 0)] * len(draws)
        self.errors: dict[int, BaseException] = {}


class Flow:
    """Asks the readers for the batches of a range.

    Args:
        readers: read.
        centres: what a step draws.
        depth: batches in flight.
        timeout: seconds that a worker may stay at one patch while it is waited for.
        name: of a case, for errors.
    """

    def __init__(
        self,
        readers: Readers,
        centres: Callable[[int], Sequence[Draw]],
        depth: int,
        timeout: float,
        name: Name,
    ) -> None:
        self.readers, self.centres, self.depth, self.name = readers, centres, depth, name
        self._patience = _Patience(timeout, name)
        self._pending: dict[int, _Pending] = {}

    def run(self, start: int, stop: int) -> Iterator[Ready]:
        """The batches, in order.

        Raises:
            DataError: in the turn of the batch that could not be read; at once where a worker dies or hangs.
        """
        order: deque[int] = deque()
        for step in range(start, stop):
            self._send(step)
            order.append(step)
            if len(order) >= self.depth:
                yield self._receive(order.popleft())
        while order:
            yield self._receive(order.popleft())

    @property
    def in_flight(self) -> int:
        """Batches asked for and not handed out yet."""
        return len(self._pending)

    def _send(self, step: int) -> None:
        draws = self.centres(step)
        pending = self._pending[step] = _Pending(step, draws, self.readers.buffers(len(draws)))
        for row, draw in enumerate(draws):
            self.readers.submit(Task(step, row, draw.volume, draw.centre), pending.buffers)

    def _receive(self, step: int) -> Ready:
        pending = self._pending[step]
        while pending.left:
            began = time.monotonic()
            done = self.readers.collect(TICK)
            for each in done:
                self._note(each)
            self._patience.spend(time.monotonic() - began, self.readers.reading())
        del self._pending[step]
        if pending.errors:
            raise pending.errors[min(pending.errors)]
        return Ready(step, pending.draws, pending.corners, *self.readers.take(pending.buffers))

    def _note(self, done: Done) -> None:
        pending = self._pending[done.task.step]
        pending.left -= 1
        pending.corners[done.task.row] = done.corner
        if done.error is not None:
            pending.errors[done.task.row] = done.error


class _Patience:
    """How long each worker has been waited for at the patch that it is at. Only waiting counts, in ticks: neither
    a long training step nor a machine that slept looks like a hang."""

    def __init__(self, timeout: float, name: Name) -> None:
        self.timeout, self.name = timeout, name
        self._waited: dict[int, tuple[Task, float]] = {}

    def spend(self, seconds: float, reading: dict[int, Task]) -> None:
        """Raises:
        DataError: a worker was waited for too long.
        """
        for worker, task in reading.items():
            before, waited = self._waited.get(worker, (task, 0.0))
            waited = waited + min(seconds, 2 * TICK) if before == task else 0.0
            self._waited[worker] = (task, waited)
            if waited >= self.timeout:
                raise hung(worker, self.name(task.volume), self.timeout)
        for worker in set(self._waited) - set(reading):
            del self._waited[worker]


def hung(worker: int, case: str, timeout: float) -> DataError:
    """A worker that does not come back."""
    return DataError(
        f"worker {worker} has been reading one patch for {timeout:g} seconds",
        case,
        "check that the disk of paths.store answers; data.timeout is how long is waited",
        HUNG,
    )
