"""Several ranks as children of the test process, over gloo."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked

from lifelong_ct.core.ranks import Ranks
from lifelong_ct.training import checkpoint
from lifelong_ct.training.group import joined

SIZE = 2


def start(work: Callable[[int], object], size: int = SIZE) -> list[int]:
    """Process ids of children in the environment that `torchrun` would give them; `work` is told the rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}

    def child(rank: int) -> object:
        os.environ.update({key: str(value) for key, value in told.items()})
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        return work(rank)

    return [forked.start(lambda rank=rank: child(rank)) for rank in range(size)]


def run(work: Callable[[Ranks], dict[str, Any]], folder: Path, size: int = SIZE) -> list[dict[str, Any]]:
    """What `work` tells on each rank, tensors and JSON values."""

    def ranked(rank: int) -> None:
        with joined() as ranks:
            checkpoint.save(folder / f"rank{rank}", work(ranks))

    assert [forked.ended(child) for child in start(ranked, size)] == [0] * size
    return [checkpoint.load(folder / f"rank{rank}") for rank in range(size)]
