"""Room in bytes shared out, among hospitals or among pools that are small enough to compare everything with everything."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lifelong_ct.core.seeding import derive_seed
from lifelong_ct.memory.selection import Descriptor

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Part:
    """Some of the descriptors and their room.

    Attributes:
        members: positions in the list of descriptors, in the order of ids, none of them gone.
        room: bytes.
    """

    members: list[int]
    room: int


def present(descriptors: Sequence[Descriptor]) -> list[int]:
    """Positions of those that are not gone, in the order of their ids."""
    return sorted((i for i, d in enumerate(descriptors) if not d.gone), key=lambda i: descriptors[i].id)


def shares(wanted: Mapping[Key, int], room: int) -> dict[Key, int]:
    """Equal shares, in which what one does not want goes to the others (max-min fairness).

    Args:
        wanted: bytes that each has.
        room: bytes for all.
    """
    given: dict[Key, int] = {}
    for n, key in enumerate(sorted(wanted, key=lambda key: (wanted[key], str(key)))):
        given[key] = min(wanted[key], (room - sum(given.values())) // (len(wanted) - n))
    return given


def by_hospital(descriptors: Sequence[Descriptor], budget: int) -> list[Part]:
    """A part per hospital, with equal shares of the budget."""
    return _split(descriptors, Part(present(descriptors), budget), lambda d: d.hospital)


def pools(descriptors: Sequence[Descriptor], part: Part, seed: int, most: int) -> list[Part]:
    """A part cut by hashes of ids into pools of about `most` members, so that what compares every two of them takes a
    time and a memory that do not grow with the square of the exemplars."""
    count = 1
    while count * most < len(part.members):
        count *= 2
    if count == 1:
        return [part]
    return _split(descriptors, part, lambda d: derive_seed(seed, "pool", d.id) % count)


def decide_parts(
    descriptors: Sequence[Descriptor], parts: Iterable[Part], choose: Callable[[Part], Iterable[int]]
) -> list[bool]:
    """The answer of a policy: of a part that passes its room what `choose` keeps, of another everything."""
    keep = [False] * len(descriptors)
    for part in parts:
        fits = sum(descriptors[i].nbytes for i in part.members) <= part.room
        for i in part.members if fits else choose(part):
            keep[i] = True
    return keep


def fitting(descriptors: Sequence[Descriptor], order: Iterable[int], room: int) -> list[int]:
    """The first of an order that fit. The first that does not ends it, whatever its size: going on would prefer small
    ones. Where the rest fitted before, what stays empty is less than the newcomers and one patch."""
    kept = []
    for i in order:
        room -= descriptors[i].nbytes
        if room < 0:
            break
        kept.append(i)
    return kept


def lot(seed: int, policy: str, descriptor: Descriptor) -> float:
    """A number in (0, 1) that depends on seed, policy and content only."""
    return (derive_seed(seed, policy, descriptor.id) + 0.5) / 2**63


def _split(
    descriptors: Sequence[Descriptor], part: Part, key: Callable[[Descriptor], Hashable]
) -> list[Part]:
    members: dict[Hashable, list[int]] = {}
    for i in part.members:
        members.setdefault(key(descriptors[i]), []).append(i)
    wanted = {name: sum(descriptors[i].nbytes for i in own) for name, own in members.items()}
    given = shares(wanted, part.room)
    return [Part(members[name], given[name]) for name in given]
