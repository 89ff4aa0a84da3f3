"""Which version of the library a store belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xxhash

from lifelong_ct import __version__
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import remove_scratch, write_json

MARKER = "format.json"
FORMAT = 5
"""Of the folder and of its files; an older version refuses a newer number."""


def claim_folder(root: Path) -> None:
    """Marks a folder with the version, or refuses one of a newer version.

    A marker that is damaged is written anew: what a volume's file says of itself counts as well.

    Raises:
        LifelongCTError: newer, or the folder cannot be written.
    """
    remove_scratch(root)  # nobody else is in: the caller holds the lock of the folder
    found = _read(root / MARKER)
    if found is not None and found["format"] > FORMAT:
        raise LifelongCTError(
            f"the store was written by lifelong-ct {found['by']} in format {found['format']}; this is {__version__}, "
            f"which reads formats up to {FORMAT}",
            str(root),
            "update lifelong-ct, or set paths.store to another folder",
        )
    if found is None or found["format"] < FORMAT:
        marker: dict[str, Any] = {"format": FORMAT, "by": __version__}
        write_json(root / MARKER, {**marker, "checksum": _checksum(marker)})


def _read(path: Path) -> dict[str, Any] | None:
    """The marker; None where there is none, or it is damaged."""
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
        kept = {"format": int(marker["format"]), "by": str(marker["by"])}
        return kept if marker["checksum"] == _checksum(kept) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(marker: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(marker, sort_keys=True).encode())
