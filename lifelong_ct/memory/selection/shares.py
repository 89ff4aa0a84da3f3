"""Room in bytes shared out, among hospitals or among pools that are small enough to compare everything with everything."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

from lifelong_ct.memory.selection import Descriptor


def present(descriptors: Sequence[Descriptor]) -> list[int]:
    """Positions of those that are not gone, in the order of their ids."""
    return sorted((i for i, d in enumerate(descriptors) if not d.gone), key=lambda i: descriptors[i].id)


def by_hospital(descriptors: Sequence[Descriptor]) -> list[list[int]]:
    """Those that are there, per hospital."""
    return _groups(descriptors, present(descriptors), lambda d: d.hospital)


def pools(descriptors: Sequence[Descriptor], members: Sequence[int], seed: int, most: int) -> list[list[int]]:
    """Members cut by hashes of their ids into pools of about `most`, so that what compares every two of them takes a
    time and a memory that do not grow with the square of the exemplars."""
    count = 1
    while count * most < len(members):
        count *= 2
    if count == 1:
        return [list(members)] if members else []
    return _groups(descriptors, members, lambda d: d.draw(seed, "pool") % count)


def share_out(
    descriptors: Sequence[Descriptor],
    groups: Iterable[list[int]],
    room: int,
    choose: Callable[[list[int], int], Sequence[int]],
) -> list[int]:
    """Whom groups keep that have equal rights to a room; what one leaves goes to the larger ones (max-min fairness).

    Args:
        descriptors: of all.
        groups: positions of their members.
        room: bytes for all groups together.
        choose: of members that pass their bytes, whom to keep.
    """
    kept: list[int] = []
    size = [d.nbytes for d in descriptors]
    sized = sorted(
        ((sum(size[i] for i in members), members) for members in groups), key=_by_size(descriptors)
    )
    for n, (wanted, members) in enumerate(sized):
        share = room // (len(sized) - n)
        mine = members if wanted <= share else choose(members, share)
        room -= sum(size[i] for i in mine)
        kept += mine
    return kept


def answers(descriptors: Sequence[Descriptor], kept: Iterable[int]) -> list[bool]:
    """True for those that are kept."""
    chosen = set(kept)
    return [i in chosen for i in range(len(descriptors))]


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
    return (descriptor.draw(seed, policy) + 0.5) / 2**63


def _groups(
    descriptors: Sequence[Descriptor], members: Iterable[int], key: Callable[[Descriptor], Hashable]
) -> list[list[int]]:
    found: dict[Hashable, list[int]] = {}
    for i in members:
        found.setdefault(key(descriptors[i]), []).append(i)
    return list(found.values())


def _by_size(descriptors: Sequence[Descriptor]) -> Callable[[tuple[int, list[int]]], tuple[int, str]]:
    return lambda group: (group[0], min(descriptors[i].id for i in group[1]))
