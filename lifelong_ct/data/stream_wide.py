"""What only shows where the cases of a stream are compared: scans that are there twice, patients in both splits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import xxhash

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.types import Case
from lifelong_ct.data.fingerprint import Fingerprint, near_duplicates, working_bytes
from lifelong_ct.data.readers import grid

BYTES_PER_VOXEL = 16
"""That reading and checking a case takes: numbers of the file, int16, labels and their overlay."""
LOOKED_AT = 8
"""Likewise while its fingerprint is made: numbers of the file."""


def need(case: Case) -> int:
    """Bytes that a case takes while it is checked, by its headers; 0 where they say nothing."""
    try:
        grids = [grid(path) for path in case.images]
    except DataError:
        return 0
    voxels = sum(math.prod(shape) for shape, _ in grids)
    looking = max((working_bytes(*first) for first in grids[:1]), default=0)
    return max(BYTES_PER_VOXEL * voxels, LOOKED_AT * voxels + looking)


def stream_wide(
    cases: Sequence[Case], prints: Sequence[Fingerprint | None]
) -> Iterator[tuple[Case, DataError]]:
    """What is wrong between cases, each error with the later case.

    Args:
        cases: of all hospitals, in the order of the stream.
        prints: their fingerprints; None for what has none.
    """
    twice = list(_duplicates(cases))
    yield from twice
    told = {id(case) for case, _ in twice}
    yield from _near_duplicates([pair for pair in zip(cases, prints, strict=True) if id(pair[0]) not in told])
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


def _near_duplicates(seen: Sequence[tuple[Case, Fingerprint | None]]) -> Iterator[tuple[Case, DataError]]:
    """The same patient at the same place of the body: another copy of a scan, or another scan."""
    shown = [(case, one) for case, one in seen if one is not None]
    for pair in near_duplicates([one for _, one in shown]):
        other, case = shown[pair.first][0], shown[pair.second][0]
        yield (
            case,
            DataError(
                f"its scan shows what that of case {other.id} of {other.hospital} shows: {pair.match.points} of "
                f"{pair.match.shared} key points coincide; this one is in {case.split}, that one in {other.split}",
                f"case {case.id}, {', '.join(map(str, case.images)) or f'hospital {case.hospital}'}",
                "keep one of them; if they are two scans of one patient, keep them in one split",
                "near-duplicate",
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
