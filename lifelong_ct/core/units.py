"""Bytes, as people write them."""

from __future__ import annotations

import re

from lifelong_ct.core.errors import LifelongCTError

_FACTORS = {
    "": 1,
    "b": 1,
    **{f"{p}b": 1000**i for i, p in enumerate("kmgt", start=1)},
    **{f"{p}ib": 1024**i for i, p in enumerate("kmgt", start=1)},
}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_bytes(value: str | int | float, key: str = "size") -> int:
    """`512MiB` → 536870912, `4GB` → 4000000000, a number is bytes.

    Args:
        value: a number of bytes, or a number with B, kB, MB, GB, TB (powers of 1000) or KiB … TiB (1024).
        key: the configuration key, for the error.

    Raises:
        LifelongCTError: not a size, negative, or not finite.
    """
    match = _PATTERN.fullmatch(str(value)) if not isinstance(value, bool) else None
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise LifelongCTError(
            f"{value!r} is not a number of bytes", key, "write 512MiB, 4GB or a plain number of bytes"
        )
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def format_bytes(nbytes: float) -> str:
    """1536 → '1.5 KiB'."""
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
