"""What reading ahead holds, in bytes: asked of the ledger before it is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.bricks import BRICK
from lifelong_ct.data.volume import AT_ONCE

KINDS = ("thread", "process")
QUEUE, DECODING, CACHES = "read-ahead queue", "decoding", "worker caches"


def checked_kind(kind: str) -> str:
    """A kind of worker.

    Raises:
        LifelongCTError: an unknown one.
    """
    if kind not in KINDS:
        raise LifelongCTError(f"worker_kind={kind!r} is unknown", "data.worker_kind", "use thread or process")
    return kind


def batch_bytes(patch: Sequence[int], batch: int, channels: int = 1, code_bytes: int = 1) -> int:
    """int16 voxels and codes of one batch."""
    return batch * math.prod(patch) * (2 * channels + code_bytes)


def needs(
    patch: Sequence[int],
    batch: int,
    *,
    read_ahead: int,
    workers: int,
    kind: str = "thread",
    cache: int = 0,
    channels: int = 1,
    code_bytes: int = 1,
) -> dict[str, int]:
    """Owner → bytes.

    The queue: `read_ahead + workers` batches, the one handed out among them, and the one before it, which the
    caller still has when it asks for the next. With processes these are slots of shared memory, and what is handed
    out is a copy, and they have caches. Decoding, per worker: compressed bricks that find no place in the cache, and
    one brick with its codes.

    Args:
        patch: voxels per axis.
        batch: patches.
        read_ahead: batches.
        workers: threads or processes.
        kind: `thread` or `process`.
        cache: bytes of the caches of all processes.
        channels: of the image.
        code_bytes: per voxel of `y`.
    """
    one = batch_bytes(patch, batch, channels, code_bytes)
    brick = math.prod(BRICK) * (2 * channels + 4)  # a label may have two bytes
    wanted = {
        QUEUE: one * (read_ahead + workers + (2 if kind == "process" else 1)),
        DECODING: workers * (AT_ONCE + brick),
    }
    return {**wanted, CACHES: cache} if kind == "process" else wanted


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
