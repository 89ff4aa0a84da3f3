"""What W&B wrote while it was offline."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def records(path: Path) -> Iterator[Any]:
    """Records of an offline `.wandb` file: 7 bytes, then blocks of 32 KiB with chunks (crc, size, kind)."""
    from wandb.proto import wandb_internal_pb2 as internal

    data, at, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if (1 << 15) - at % (1 << 15) < 7:  # no header fits: the rest of the block is padding
            at += (1 << 15) - at % (1 << 15)
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        parts, at = parts + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):
            record = internal.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def read_offline(folder: Path) -> dict[str, Any]:
    """Config, history rows, summary and the run's own fields of the only run in `folder`/wandb."""
    (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    found: dict[str, Any] = {"config": {}, "history": [], "summary": {}}

    def value(item: Any) -> tuple[str, Any]:
        return item.key or "/".join(item.nested_key), json.loads(item.value_json)

    for record in records(file):
        if record.HasField("run"):
            found["run"] = record.run
            found["config"] = dict(map(value, record.run.config.update))
        found["history"] += [dict(map(value, record.history.item))] if record.HasField("history") else []
        found["summary"] |= dict(map(value, record.summary.update))
    return found
