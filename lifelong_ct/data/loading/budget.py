"""What reading ahead holds, in bytes: asked of the ledger before it is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lifelong_ct.core.ledger import Ledger

QUEUE, DECODING = "read-ahead queue", "decoding"
_BRICK = 64**3
"""Voxels of the largest brick."""


def batch_bytes(patch: Sequence[int], batch: int, channels: int = 1, code_bytes: int = 1) -> int:
    """int16 voxels and codes of one batch."""
    return batch * math.prod(patch) * (2 * channels + code_bytes)


def needs(
    patch: Sequence[int],
    batch: int,
    *,
    read_ahead: int,
    workers: int,
    processes: bool,
    channels: int = 1,
    code_bytes: int = 1,
) -> dict[str, int]:
    """Owner → bytes.

    The queue: `read_ahead + workers` batches, the one handed out among them, and the one before it, which the
    caller still has when it asks for the next. With processes these are slots of shared memory, and what is handed
    out is a copy. Decoding, per worker: the box that is read, and one brick, compressed and not.

    Args:
        patch: voxels per axis.
        batch: patches.
        read_ahead: batches.
        workers: threads or processes.
        processes: whether they are processes.
        channels: of the image.
        code_bytes: per voxel of `y`.
    """
    one = batch_bytes(patch, batch, channels, code_bytes)
    voxel = 2 * channels + 2  # a label may have two bytes
    return {
        QUEUE: one * (read_ahead + workers + (2 if processes else 1)),
        DECODING: workers * voxel * (math.prod(patch) + 2 * _BRICK),
    }


@contextmanager
def admitted(ledger: Ledger | None, wanted: dict[str, int]) -> Iterator[None]:
    """Asks for RAM for the length of a block. What the owners had before they have again afterwards.

    Raises:
        LimitExceeded: `memory.ram` would be passed.
    """
    if ledger is None:
        yield
        return
    before = ledger.holders("ram")
    try:
        for owner, nbytes in wanted.items():
            ledger.admit("ram", owner, max(nbytes, before.get(owner, 0)))
        yield
    finally:
        for owner in wanted:
            ledger.use("ram", owner, 0)
            if owner in before:
                ledger.admit("ram", owner, before[owner])
            else:
                ledger.release("ram", owner)
