"""Up to how many mm two surfaces of an organ count as equal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.vocabulary import default_vocabulary, read_documents

TABLE = Path(__file__).with_name("tolerances.yaml")
OTHERS = "default"
"""Key of the value of organs that are not listed."""
_WHERE = "evaluation.metrics tolerance"


@lru_cache(maxsize=1)
def default_tolerances() -> Mapping[str, float]:
    """The table that ships with the library: organ, or `OTHERS`, → mm."""
    return _checked(next(read_documents(TABLE)))


def tolerances(given: float | Mapping[str, float] | None) -> Mapping[str, float]:
    """A table from what a configuration says.

    Args:
        given: one value for all organs in mm; organs (canonical or alias, or `OTHERS`) whose entries replace those of
            the library's table; or None, that table.

    Raises:
        LifelongCTError: a value is no distance, or an organ is unknown.
    """
    if given is None:
        return default_tolerances()
    if isinstance(given, Mapping):
        return {**default_tolerances(), **_checked(given)}
    return {OTHERS: _distance(given)}


def _checked(table: Mapping[str, object]) -> dict[str, float]:
    known = default_vocabulary()
    return {
        organ if organ == OTHERS else known.canonical(organ, _WHERE): _distance(mm)
        for organ, mm in table.items()
    }


def _distance(mm: object) -> float:
    number = isinstance(mm, (int, float)) and not isinstance(mm, bool)
    if not (number and np.isfinite(mm) and mm >= 0):  # type: ignore[call-overload, operator]
        raise LifelongCTError(f"{mm!r} is not a distance in mm", _WHERE, "write 0 or more mm")
    return float(mm)  # type: ignore[arg-type]
