"""What only shows where the cases of a stream are compared: scans that are there twice, patients in both splits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import xxhash

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.types import Case
from lifelong_ct.data.readers import grid

BYTES_PER_VOXEL = 16
"""That reading and checking a case takes: numbers of the file, int16, labels and their overlay."""


def need(case: Case) -> int:
    """Bytes that a case takes while it is checked, by its headers; 0 where they say nothing."""
    try:
        shapes = [grid(path)[0] for path in case.images]
    except DataError:
        return 0
    return BYTES_PER_VOXEL * sum(map(math.prod, shapes))


def stream_wide(cases: Sequence[Case]) -> Iterator[tuple[Case, DataError]]:
    """Cases of all hospitals, in the order of the stream, and what is wrong between them."""
    yield from _duplicates(cases)
    yield from _in_both(cases)


def _duplicates(cases: Sequence[Case]) -> Iterator[tuple[Case, DataError]]:
    """Images of equal bytes. Only those of equal size are read."""
    images = [(case, path) for case in cases for path in dict.fromkeys(case.images)]
    sizes = {path: _size(path) for _, path in images}
    often = Counter(sizes[path] for _, path in images)
    first: dict[str, Case] = {}
    for case, path in images:
        if sizes[path] and often[sizes[path]] > 1 and (digest := _digest(path)):
            other = first.setdefault(digest, case)
            if other is not case:
                yield (
                    case,
                    DataError(
                        f"its scan is that of case {other.id} of {other.hospital}, byte for byte",
                        f"case {case.id}, {path}",
                        "keep one of them",
                        "duplicate",
                    ),
                )


def _in_both(cases: Sequence[Case]) -> Iterator[tuple[Case, DataError]]:
    """Within a hospital: another one may call another patient the same."""
    first: dict[tuple[str, str], Case] = {}
    for case in cases:
        other = first.setdefault((case.hospital, case.patient), case)
        if other.split != case.split:
            yield (
                case,
                DataError(
                    f"its patient is in {case.split} here and in {other.split} as case {other.id}",
                    f"case {case.id}, hospital {case.hospital}",
                    "keep all scans of a patient in one split; give different patients different identifiers",
                    "patient-in-both",
                ),
            )


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; 0 where it cannot be told."""
    try:
        return sum(file.stat().st_size for file in _files(path) if file.is_file())
    except OSError:
        return 0


def _digest(path: Path) -> str:
    """Of content, whatever the files of a folder are called; empty where it cannot be read."""
    digests = []
    for file in _files(path):
        hasher = xxhash.xxh3_128()
        try:
            with file.open("rb") as opened:
                while data := opened.read(1 << 20):
                    hasher.update(data)
        except OSError:
            return ""
        digests.append(hasher.hexdigest())
    return " ".join(sorted(digests))
