"""An order of cases that no name, no path and no arrival has a say in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import xxhash

from lifelong_ct.core import paths
from lifelong_ct.core.seeding import derive_seed
from lifelong_ct.core.types import Case
from lifelong_ct.data.types import bad_file

LOOK = 1 << 16
"""Bytes that are looked at of each file, at its begin and in its middle: no scan is read whole."""


def mark(case: Case) -> str:
    """32 hex digits of what a case shows: some bytes of its images and their sizes; of a drawn case, what it is
    drawn from. The same for a file that was renamed or moved.

    Raises:
        DataError: missing, or it cannot be read.
    """
    digest = xxhash.xxh3_128()
    if not case.files:
        digest.update(json.dumps([case.hospital, case.id, dict(case.params)], sort_keys=True).encode())
    for path in case.images:
        digest.update(_look(path))
    return digest.hexdigest()


def ranked(cases: Sequence[Case], *keys: str | int) -> list[int]:
    """Positions of the cases in a random order, which follows from the keys and from what the cases show.

    Raises:
        DataError: as `mark`.
    """
    marks = [mark(case) for case in cases]
    return sorted(range(len(cases)), key=lambda i: (derive_seed(*keys, marks[i]), marks[i]))


def _look(path: Path) -> bytes:
    try:
        if not paths.is_folder(path):
            return _file(path)
        return b"".join(
            sorted(_file(path / name) for name, folder in paths.listing(path).items() if not folder)
        )
    except OSError as error:
        raise bad_file(path, f"it cannot be read: {error}", "missing", "bring it back") from error


def _file(path: Path) -> bytes:
    size = path.stat().st_size
    seen = paths.head(path, LOOK) + paths.head(path, LOOK, size // 2)
    return xxhash.xxh3_128_digest(size.to_bytes(8, "little") + seen)
