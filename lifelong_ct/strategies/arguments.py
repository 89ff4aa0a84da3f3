"""What constructors of methods check."""

from __future__ import annotations

import math
from typing import Any

from lifelong_ct.core.errors import LifelongCTError


def check_numbers(
    fix: str = "write a number of at least 0", *, positive: bool = False, **numbers: Any
) -> None:
    """Looks at numbers by their names.

    Args:
        fix: for the error.
        positive: 0 is wrong too.

    Raises:
        LifelongCTError: one is no finite number of at least 0.
    """
    wrong = [name for name, value in numbers.items() if not _fits(value, positive)]
    if wrong:
        told = " and ".join(f"{name}={numbers[name]}" for name in wrong)
        raise LifelongCTError(told, "strategy.plugins", fix)


def _fits(value: Any, positive: bool) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return plain and 0 <= value < math.inf and not (positive and value == 0)
