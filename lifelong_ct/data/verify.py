"""Every problem of a hospital, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.layouts import Layout
from lifelong_ct.data.readers import expected as readers

EXPECTED = {
    **readers.EXPECTED,
    "corrupt": "a whole file, to its last byte and checksum",
    "empty-label": "a voxel of an annotated organ",
    "fractional-label": "whole ids",
    "geometry-conflict": "one geometry in sform and qform",
    "geometry-mismatch": "labels that lie where the scan lies",
    "implausible-hu": "HU from about -1000 to over 500",
    "missing": "a file at this path",
    "no-geometry": "an affine with a spacing in mm",
    "non-finite": "finite voxels",
    "not-3d": "one 3D volume",
    "not-nifti": "a .nii or .nii.gz file",
    "not-scalar": "one number per voxel",
    "shape-mismatch": "labels on the grid of the scan",
    "sheared": "axes at right angles",
    "too-thin": "several slices",
    "unknown-label": "declared ids only",
}
"""What would be right, per code."""


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


def verify(layout: Layout) -> Iterator[Problem]:
    """Loads every case and goes on after each problem.

    A layout may offer `inspect()`, which yields an error in place of a case that cannot be listed, and
    `problems(case)`, which lists all errors of its files; without them the first error of each counts.
    """
    for found in _listed(layout):
        if isinstance(found, Case):
            for error in _problems(layout, found):
                yield _told(found.id, error)
        else:
            yield _told("", found)


def _listed(layout: Any) -> Iterator[Case | LifelongCTError]:
    try:
        yield from getattr(layout, "inspect", layout.cases)()
    except LifelongCTError as error:
        yield error


def _problems(layout: Any, case: Case) -> list[LifelongCTError]:
    if hasattr(layout, "problems"):
        return list(layout.problems(case))
    try:
        layout.load(case)
    except LifelongCTError as error:
        return [error]
    return []


def _told(case: str, error: LifelongCTError) -> Problem:
    code = error.code if isinstance(error, DataError) else "configuration"
    return Problem(case, error.where, code, error.what, EXPECTED.get(code, ""), error.fix)
