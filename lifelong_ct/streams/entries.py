"""Lists of a stream as a user writes them, in the order that `stream.order` and `stream.first` make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator

Entries = Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]]


def listed(entries: Entries) -> list[dict[str, Any]]:
    """Hospitals as a list, each with its name.

    Raises:
        LifelongCTError: something else than groups of keys.
    """
    named = isinstance(entries, Mapping)
    several: Any = list(entries.values()) if isinstance(entries, Mapping) else entries
    if not isinstance(several, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in several):
        raise LifelongCTError(
            "a hospital is no group of keys", "stream.hospitals", "list each as {name: …, layout: …, …}"
        )
    if named:
        return [{"name": name, **entry} for name, entry in zip(entries, several, strict=True)]
    return [dict(entry) for entry in several]


def ordered(
    entries: list[dict[str, Any]], order: Sequence[str] | int | None, of: str = "hospital"
) -> list[dict[str, Any]]:
    """The entries in the order that `stream.order` says.

    Raises:
        LifelongCTError: a name that none of them has, or something else.
    """
    if order is None:
        return entries
    if isinstance(order, int) and whole(order):
        return [entries[i] for i in generator("order", order).permutation(len(entries))]
    by_name = {entry.get("name"): entry for entry in entries}
    if not isinstance(order, (list, tuple)):
        raise LifelongCTError(
            f"order={order!r}", "stream.order", "list names, or write a number: the key of a random order"
        )
    unknown = [name for name in order if name not in by_name]
    if unknown:
        raise LifelongCTError(
            f"no {of} {', '.join(map(repr, unknown))}",
            "stream.order",
            f"the stream has {', '.join(map(str, by_name))}",
        )
    return [by_name[name] for name in order]


def cycled(entries: list[dict[str, Any]], first: int | None) -> list[dict[str, Any]]:
    """The first so many; past the end they come again, as `<name>_2`.

    Raises:
        LifelongCTError: no number from 1.
    """
    if first is None or not entries:
        return entries
    check_first(first)
    rounds = ((i // len(entries), entries[i % len(entries)]) for i in range(first))
    return [e if not k else {**e, "name": f"{e['name']}_{k + 1}"} for k, e in rounds]


def check_first(first: object, most: int | None = None, of: str = "hospitals") -> None:
    """Looks at `stream.first`.

    Raises:
        LifelongCTError: no number from 1, or more than there are.
    """
    if not isinstance(first, int) or not whole(first) or first < 1:
        raise LifelongCTError(f"{first} {of}", "stream.first", "write 1 or more, or null for all")
    if most is not None and first > most:
        raise LifelongCTError(f"{first} of {most} {of}", "stream.first", "list more, or write null for all")


def whole(value: object) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
