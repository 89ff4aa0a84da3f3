"""Every problem of a hospital, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.layouts import Layout


@dataclass(frozen=True)
class Problem:
    """One thing to mend.

    Attributes:
        case: the source's id, empty where it is about the whole hospital.
        file: or key.
        code: short stable name.
        found: what is wrong.
        expected: what would be right, where that is not said by `fix`.
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
    return Problem(case, error.where, code, error.what, "", error.fix)
