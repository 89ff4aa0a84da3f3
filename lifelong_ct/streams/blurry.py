"""Blurry: every experience has a share of cases of other hospitals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.marks import ranked
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.streams.base import Stream
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.streams.parts import Experience, part


class Blurry(Stream):
    """Hospitals one after another, with a share of each one's cases at the others' times.

    "Blurry-M" of Bang et al., "Rainbow memory: continual learning with a memory of diverse samples", CVPR 2021 (arXiv
    2103.17230): every task has 100 - M % samples of its own major classes and M % of the others', and tasks share all
    classes. Here hospitals take the place of classes. Every case comes once.

    Args:
        share: M / 100, share of each hospital's training cases that arrive with another one; rounded to whole cases,
            halves upwards.
        seed: chooses them; of the data, not of the run.
        **given: options of `Stream`.

    Raises:
        LifelongCTError: no share below 1, or a single hospital.
    """

    def __init__(self, *, share: float, seed: int = 0, **given: Any) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise LifelongCTError(f"share={share!r}", "stream.share", "write a number from 0 to below 1")
        self.share, self.seed = float(share), seed
        super().__init__(**given)

    def _arrivals(self) -> list[Experience]:
        count = len(self.hospitals)
        if count < 2 and self.share:
            raise LifelongCTError("one hospital has no other", "stream.hospitals", "list two or more")
        mixes = [_Mix(hospital.name) for hospital in self.hospitals]
        for i, hospital in enumerate(self.hospitals):
            guests = ranked(hospital.train, "guests", self.seed)[
                : int(self.share * len(hospital.train) + 0.5)
            ]
            others = [j % count for j in range(i + 1, i + count)]
            places = {case: others[turn % len(others)] for turn, case in enumerate(guests)}
            for case in range(len(hospital.train)):
                mixes[places.get(case, i)].add(hospital, hospital.train[case])
        return [mix.experience() for mix in mixes]


@dataclass
class _Mix:
    """An experience in the making: the cases that arrive with a hospital."""

    name: str
    cases: dict[str, tuple[Hospital, list[Case]]] = field(default_factory=dict)

    def add(self, hospital: Hospital, case: Case) -> None:
        self.cases.setdefault(hospital.name, (hospital, []))[1].append(case)

    def experience(self) -> Experience:
        """Its own hospital first, then its guests in the order of the stream."""
        rows = sorted(self.cases.values(), key=lambda row: row[0].name != self.name)
        parts = [part(hospital, f"with {self.name}", cases) for hospital, cases in rows]
        return Experience(self.name, tuple(parts), Task((self.name,)))
