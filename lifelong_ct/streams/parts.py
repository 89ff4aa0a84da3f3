"""Parts of a hospital: some of its cases, and some of what they annotate."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from lifelong_ct.core.types import Case
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.streams.hospital import SHARING, Hospital


@dataclass(frozen=True)
class Experience:
    """What arrives at once.

    Attributes:
        name: for the reports.
        hospitals: that it trains on, each whole or a part.
        task: what is scored as its own in the measures of a stream.
    """

    name: str
    hospitals: tuple[Hospital, ...]
    task: Task

    @property
    def sharing(self) -> str:
        """What may be kept of it: what the strictest of its hospitals allows."""
        return max((hospital.sharing for hospital in self.hospitals), key=SHARING.index)


def annotating(case: Case, organs: Collection[str]) -> Case:
    """The case with these of its organs annotated; what else it shows is unknown, not background."""
    kept = tuple(organ for organ in case.organs if organ in organs)
    if not kept:
        return unannotated(case)
    return case if kept == case.organs else replace(case, organs=kept)


def unannotated(case: Case) -> Case:
    """The scan alone."""
    return replace(case, organs=(), label=None, masks={}, label_ids={}, splits=())


def part(
    hospital: Hospital, name: str, cases: Iterable[Case], shown: Sequence[str] = (), limit: int | None = None
) -> Hospital:
    """Some of the training cases of a hospital.

    Args:
        hospital: whose test cases stay as they are.
        name: of the part, unique within the hospital.
        cases: as they are annotated here.
        shown: see `Hospital`.
        limit: most cases.
    """
    return replace(hospital, part=name, train=tuple(cases)[:limit], shown=tuple(shown))


def merged(parts: Iterable[Hospital]) -> tuple[Hospital, ...]:
    """The hospitals that parts belong to, in the order of their first part: each case once, with all that any part
    annotates of it. What a strategy that keeps all past data has learnt from."""
    groups: dict[str, list[Hospital]] = {}
    for own in parts:
        groups.setdefault(own.name, []).append(own)
    return tuple(own[0] if len(own) == 1 else _union(own) for own in groups.values())


def _union(parts: Sequence[Hospital]) -> Hospital:
    cases: dict[str, Case] = {}
    for case in (case for own in parts for case in own.train):
        known = cases.get(case.id)
        cases[case.id] = case if known is None else _both(known, case)
    shown = dict.fromkeys(organ for own in parts for organ in own.shown)
    return replace(
        parts[0],
        part="+".join(own.part for own in parts),
        train=tuple(cases.values()),
        shown=tuple(shown) if all(own.shown for own in parts) else (),
    )


def _both(one: Case, other: Case) -> Case:
    whole = one if one.organs else other
    return replace(whole, organs=tuple(dict.fromkeys((*one.organs, *other.organs))))
