"""What readers are asked and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.sampling.policy import Centre, Corner


class Task(NamedTuple):
    """One patch to read: row `row` of batch `step`."""

    step: int
    row: int
    volume: int
    centre: Centre


class Done(NamedTuple):
    """A task that a worker has ended: the patch began at `corner` of its volume, or there is an error."""

    worker: int
    task: Task
    error: BaseException | None = None
    corner: Corner = (0, 0, 0)


class Buffers(NamedTuple):
    """Where a batch is written: int16 `x` `[B,C,D,H,W]`, codes `y` `[B,1,D,H,W]`; `slot` where it is shared."""

    x: np.ndarray
    y: np.ndarray
    slot: int = 0


class Readers(Protocol):
    """Workers that read patches into buffers, in any order."""

    def buffers(self, rows: int) -> Buffers:
        """Room for a batch."""
        ...

    def submit(self, task: Task, buffers: Buffers) -> None:
        """Hands a task over."""
        ...

    def collect(self, seconds: float) -> list[Done]:
        """What has ended since; waits at most so long for the first.

        Raises:
            DataError: a worker has died.
        """
        ...

    def reading(self) -> dict[int, Task]:
        """Worker → the task that it is at."""
        ...

    def take(self, buffers: Buffers) -> tuple[np.ndarray, np.ndarray]:
        """`x` and `y` of a batch that is ready, the caller's own from now on."""
        ...

    def close_volume(self, index: int) -> None:
        """Nothing more will be read of a volume."""
        ...

    def stop(self, hung: bool = False) -> None:
        """Ends the workers; what they have not begun is not read. `hung`: do not wait for them."""
        ...


Name = Callable[[int], str]
"""Index of a volume → what its case is called in an error."""


def failed(error: BaseException, case: str) -> BaseException:
    """What the caller is told when a patch could not be read."""
    if isinstance(error, (LifelongCTError, KeyboardInterrupt)):
        return error
    if isinstance(error, MemoryError):
        return out_of_memory(case)
    return DataError(
        f"a patch could not be read: {type(error).__name__}: {error}",
        case,
        "lifelong-ct verify checks the case; a volume that is deleted from the store is made again",
        "unreadable",
    )


def out_of_memory(case: str) -> DataError:
    """A worker could not allocate."""
    return DataError(
        "there was no memory left to read a patch",
        case,
        "lower data.workers, data.read_ahead or memory.ram, or free memory on this machine",
        "worker_memory",
    )
