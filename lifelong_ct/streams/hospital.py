"""A hospital of a stream: its cases, reduced to what the stream learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.layouts import Layout, open_layout
from lifelong_ct.data.verify import Bad, divided

SHARING = ("patches", "features", "forbid")


@dataclass(frozen=True)
class Hospital:
    """A dataset within a stream.

    Attributes:
        name: unique within the stream.
        layout: reads its cases.
        sharing: what may be kept of it after its experience: patches, features (no voxels) or forbid (nothing).
        train, test: cases, with the organs that the stream learns.
        skipped: cases that cannot be used, where the user said to go on without them.
        part: name of a part of the hospital's training cases; empty for the whole.
        shown: training cases without a voxel of any of these organs are left out once they are read; empty for none.
    """

    name: str
    layout: Layout
    sharing: str
    train: tuple[Case, ...]
    test: tuple[Case, ...]
    skipped: tuple[Bad, ...] = ()
    part: str = ""
    shown: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Of its training cases within the stream."""
        return f"{self.name}/{self.part}" if self.part else self.name

    @property
    def private(self) -> bool:
        """Whether no file may hold a voxel of it once it is learnt."""
        return self.sharing != "patches"


def open_hospital(
    entry: Mapping[str, Any], space: LabelSpace, limit: int | None, skip: bool = False
) -> Hospital:
    """Indexes one hospital; reads headers only.

    Args:
        entry: name, layout, sharing and whatever the layout's constructor takes.
        space: only its organs are kept of each case.
        limit: most cases per split.
        skip: every case is read first, and those that cannot be used are left out and told.

    Raises:
        LifelongCTError: an entry without a name, an unknown sharing, or no case.
    """
    rest = dict(entry)
    name, sharing = str(rest.pop("name", "")), rest.pop("sharing", "patches")
    if not name:
        raise LifelongCTError(
            f"a hospital without a name: {sorted(entry)}", "stream.hospitals", "give it one"
        )
    if sharing not in SHARING:
        raise LifelongCTError(
            f"sharing {sharing!r} is unknown", f"stream.hospitals {name}", f"use one of {', '.join(SHARING)}"
        )
    layout = open_layout({"name": name, **rest})
    found: dict[str, list[Case]] = {"train": [], "test": []}
    learnt = _Learnt(space)
    any_case = False
    cases, skipped = divided(layout) if skip else (layout.cases(), [])
    for case in cases:
        any_case = True
        mine = found[case.split]
        if (limit is None or len(mine) < limit) and (kept := learnt(case)).organs:
            mine.append(kept)
    if not any_case and not skipped:
        raise LifelongCTError("it has no cases", f"stream.hospitals {name}", "check its root and manifest")
    return Hospital(name, layout, sharing, tuple(found["train"]), tuple(found["test"]), tuple(skipped))


def sees(cases: Iterable[Case]) -> list[str]:
    """Organs annotated in any of the cases, in order of appearance."""
    return list(dict.fromkeys(organ for case in cases for organ in case.organs))


class _Learnt:
    """Reduces cases to the organs of a stream. Cases with the same organs share what is left of them, and those
    that lose nothing stay as they are: a hospital may have 30,000."""

    def __init__(self, space: LabelSpace) -> None:
        self._space = frozenset(space.organs)
        self._shared: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __call__(self, case: Case) -> Case:
        if case.organs not in self._shared:
            self._shared[case.organs] = tuple(o for o in case.organs if o in self._space)
        organs = self._shared[case.organs]
        return case if organs == case.organs else replace(case, organs=organs)
