"""What constructors of methods check."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection import SelectionPolicy, needs_of
from lifelong_ct.memory.selection.arguments import is_number, whole


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


def wholes(values: Any, where: str, least: int) -> tuple[int, ...]:
    """The values, one or more whole numbers of at least `least`.

    Raises:
        LifelongCTError: they are not.
    """
    if isinstance(values, str) or not isinstance(values, Collection) or not values:
        raise LifelongCTError(
            f"{where}={values!r}", where, f"write a list of whole numbers of at least {least}"
        )
    return tuple(whole(value, where, least) for value in values)


def bounds(values: Any, where: str) -> tuple[float, float]:
    """The values, a lower number and a higher one.

    Raises:
        LifelongCTError: they are not.
    """
    if isinstance(values, (list, tuple)) and len(values) == 2:
        low, high = values
        if is_number(low) and is_number(high) and -math.inf < low < high < math.inf:
            return float(low), float(high)
    raise LifelongCTError(f"{where}={values!r}", where, "write [low, high]")


def check_needs(selection: SelectionPolicy, told: Collection[str], why: str, fix: str) -> None:
    """Looks at what a policy asks to be told of a patch.

    Args:
        selection: the policy.
        told: what it may ask for.
        why: nobody tells the rest, for the error.
        fix: likewise.

    Raises:
        LifelongCTError: it asks for more; or see `needs_of`.
    """
    if unknown := needs_of(selection) - set(told):
        asked = f"{type(selection).__name__} asks for the {' and '.join(sorted(unknown))} of a patch"
        raise LifelongCTError(f"{asked}, {why}", "strategy.plugins.selection", fix)


def _fits(value: Any, positive: bool) -> bool:
    return is_number(value) and 0 <= value < math.inf and not (positive and value == 0)
