"""What constructors of policies check."""

from __future__ import annotations

import math
from typing import Any

from lifelong_ct.core.errors import LifelongCTError


def whole(value: Any, where: str, least: int) -> int:
    """The value, a whole number of at least `least`.

    Raises:
        LifelongCTError: it is not.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise LifelongCTError(f"{where}={value!r}", where, f"write a whole number of at least {least}")


def is_number(value: Any) -> bool:
    """Whether it is a number; a truth value is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def between(value: Any, where: str, low: float, high: float = math.inf) -> float:
    """The value, a number from `low` to `high`.

    Raises:
        LifelongCTError: it is not.
    """
    if is_number(value) and low <= value <= high and value < math.inf:
        return float(value)
    most = "" if high == math.inf else f" and at most {high:g}"
    raise LifelongCTError(f"{where}={value!r}", where, f"write a number of at least {low:g}{most}")
