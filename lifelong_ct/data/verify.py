"""Every problem of a hospital, or of all hospitals of a stream, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.file_layout import FileLayout, MissingFile
from lifelong_ct.data.fingerprint import Fingerprint, fingerprint
from lifelong_ct.data.images import Watch, nobody
from lifelong_ct.data.layouts import Layout
from lifelong_ct.data.readers import expected as readers
from lifelong_ct.data.side_by_side import Job, in_order
from lifelong_ct.data.stream_wide import need, stream_wide

EXPECTED = {
    **readers.EXPECTED,
    "corrupt": "a whole file, to its last byte and checksum",
    "duplicate": "each scan once in a stream",
    "empty-label": "a voxel of an annotated organ",
    "fractional-label": "whole ids",
    "geometry-conflict": "one geometry in sform and qform",
    "geometry-mismatch": "labels that lie where the scan lies",
    "label-in-air": "organs of tissue on tissue",
    "implausible-hu": "HU from about -1000 to over 500",
    "missing": "a file at this path",
    "near-duplicate": "each scan once in a stream",
    "no-geometry": "an affine with a spacing in mm",
    "non-finite": "finite voxels",
    "not-3d": "one 3D volume",
    "not-a-file": "a regular file",
    "not-a-mask": "the mask of one organ",
    "not-nifti": "a .nii or .nii.gz file",
    "not-scalar": "one number per voxel",
    "shape-mismatch": "labels on the grid of the scan",
    "overlap": "organs that share voxels only where one contains the other",
    "patient-in-both": "each patient in train or in test",
    "sheared": "axes at right angles",
    "too-large": "at most 16 GiB of voxels, and more than emptiness",
    "too-thin": "several slices",
    "unknown-label": "declared ids only",
    "unknown-side": "organs with their sides",
    "unreadable": "a file that may be read",
    "wrong-units": "mm",
}
"""What would be right, per code."""
ANATOMY = ("CT", "MR", "US")
"""Modalities whose scans are compared with each other."""


@dataclass(frozen=True)
class Problem:
    """One thing to mend.

    Attributes:
        case: the source's id, empty where it is about the whole hospital.
        file: or key.
        code: short stable name.
        found: what is wrong.
        expected: what would be right; empty where `fix` says it.
        fix: what to do.
    """

    case: str
    file: str
    code: str
    found: str
    expected: str
    fix: str


OnCase = Callable[[int, int], None]


def verify(layout: Layout, workers: int = 1, ram: int | None = None) -> Iterator[Problem]:
    """Loads every case and goes on after each problem; see `verify_stream`."""
    yield from verify_stream({"": layout}, workers, ram)


def verify_stream(
    layouts: Mapping[str, Layout],
    workers: int = 1,
    ram: int | None = None,
    on_case: OnCase = lambda done, total: None,
) -> Iterator[Problem]:
    """Loads every case of every hospital, and then compares them with each other.

    A layout may offer `inspect()`, which yields an error in place of a case that cannot be listed, and
    `problems(case)`, which lists all errors of its files; without them the first error of each counts.

    Args:
        layouts: hospital → its layout.
        workers: threads; the order of the problems does not depend on them.
        ram: bytes that the cases being read may take, by their headers; one case is always read.
        on_case: told `(done, total)`.
    """
    listed = [(layout, found) for layout in layouts.values() for found in _listed(layout)]
    jobs = [Job(_needed(found), partial(_looked_at, layout, found)) for layout, found in listed]
    seen = []
    for done, (rows, look) in enumerate(in_order(jobs, workers, ram), start=1):
        on_case(done, len(jobs))
        seen.append(look)
        yield from rows
    cases = [(found, look) for (_, found), look in zip(listed, seen, strict=True) if isinstance(found, Case)]
    for case, error in stream_wide([case for case, _ in cases], [look for _, look in cases]):
        yield _told(case.id, error)


@dataclass(frozen=True)
class Bad:
    """A case that is left out.

    Attributes:
        case: None where it cannot even be listed.
        error: its first problem.
    """

    case: Case | None
    error: LifelongCTError

    @property
    def code(self) -> str:
        """Short stable name of the problem."""
        return self.error.code if isinstance(self.error, DataError) else "configuration"


def divided(layout: Layout) -> tuple[list[Case], list[Bad]]:
    """The cases of a hospital that can be used, and those that cannot; one at a time is read."""
    good, bad = [], []
    for found in _listed(layout):
        if isinstance(found, LifelongCTError):
            bad.append(Bad(None, found))
        elif problems := _problems(layout, found):
            bad.append(Bad(found, problems[0]))
        else:
            good.append(found)
    return good, bad


def _needed(found: Case | LifelongCTError) -> int:
    return need(found) if isinstance(found, Case) else 0


def _looked_at(layout: Layout, found: Case | LifelongCTError) -> tuple[list[Problem], Fingerprint | None]:
    """The problems of a case, and its fingerprint where its numbers could be read, whatever is wrong with them."""
    if isinstance(found, LifelongCTError):
        return _unlisted(layout, found), None
    seen: list[Fingerprint] = []

    def watch(voxels: Any, affine: Any, modality: str) -> None:
        if modality in ANATOMY:
            seen.append(fingerprint(voxels, affine, modality))

    rows = [_told(found.id, error) for error in _problems(layout, found, watch)]
    return rows, seen[0] if seen else None


def _listed(layout: Any) -> Iterator[Case | LifelongCTError]:
    try:
        yield from getattr(layout, "inspect", layout.cases)()
    except LifelongCTError as error:
        yield error


def _problems(layout: Any, case: Case, watch: Watch = nobody) -> list[LifelongCTError]:
    if isinstance(layout, FileLayout):
        return list(layout.problems(case, watch))
    if hasattr(layout, "problems"):
        return list(layout.problems(case))
    try:
        raw = layout.load(case)
    except LifelongCTError as error:
        return [error]
    if raw.image.ndim in (3, 4):
        watch(raw.image if raw.image.ndim == 3 else raw.image[0], raw.affine, case.modality.split("+")[0])
    return []


def _unlisted(layout: Layout, error: LifelongCTError) -> list[Problem]:
    """An error of a listing; where a file is missing, with the problems of the case's other files."""
    if not isinstance(error, MissingFile):
        return [_told(error.case_id, error)]
    others = _problems(layout, error.case) if error.first else []
    rest = [e for e in others if not (isinstance(e, DataError) and e.code == "missing")]
    return [_told(error.case.id, e) for e in (error, *rest)]


def _told(case: str, error: LifelongCTError) -> Problem:
    code = error.code if isinstance(error, DataError) else "configuration"
    return Problem(case, error.where, code, error.what, EXPECTED.get(code, ""), error.fix)
