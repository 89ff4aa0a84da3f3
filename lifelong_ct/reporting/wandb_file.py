"""What stands in a `.wandb` file: all that `wandb sync` could send of a run."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 1 << 15, 7
"""Bytes: of a block, of the header of each chunk, and as many before the first."""
WHOLE, LAST = 1, 4
"""Kinds of chunks that end a record."""


def records(path: Path) -> Iterator[Any]:
    """`wandb_internal_pb2.Record`s of a file of W&B 0.31: `:W&B` and 3 bytes, then blocks of 32 KiB with chunks (crc,
    size, kind). What a killed process left half-written ends them.

    Raises:
        ValueError: it is no such file.
    """
    from wandb.proto import wandb_internal_pb2

    made: Any = wandb_internal_pb2  # its names are made when it is imported
    data, at, parts = path.read_bytes(), HEADER, b""
    if data[:4] != b":W&B":
        raise ValueError(f"{path.name} is no file of W&B")
    while at + HEADER <= len(data):
        rest = BLOCK - at % BLOCK
        if rest < HEADER:  # no header fits: the rest of the block is padding
            at += rest
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + HEADER])
        if kind == 0 or at + HEADER + size > len(data):
            return
        parts, at = parts + data[at + HEADER : at + HEADER + size], at + HEADER + size
        if kind in (WHOLE, LAST):
            record = made.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def keys(path: Path) -> Counter[str]:
    """Key → number of records that have it: those of the history by their names, those of the summary as `summary/…`.
    The summary repeats the last row of the history, as often as W&B likes."""
    found: Counter[str] = Counter()
    for record in records(path):
        found.update(map(_name, record.history.item))
        found.update(f"summary/{_name(item)}" for item in record.summary.update)
    return found


def _name(item: Any) -> str:
    return item.key or "/".join(item.nested_key)
