"""What the class-incremental scenarios share: the same hospitals in every step, other organs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.marks import ranked
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.streams.base import Stream
from lifelong_ct.streams.entries import check_first, ordered
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.streams.parts import Experience, annotating, part


class ClassIncremental(Stream):
    """One experience per step; every hospital takes part in each.

    The test cases stay as the hospitals annotate them, so the matrix has every organ at every hospital after every
    step; an organ that no step has taught yet is an empty prediction there, and the measures of the stream leave it out
    (`evaluation.transfer`).

    Args:
        classes: name of each step → the organs that are new in it.
        seed: chooses the cases of each step; of the data, not of the run.
        **given: options of `Stream`; of these `order` is that of the steps, `first` how many there are, and
            `limit` counts per step.

    Raises:
        LifelongCTError: an organ in two steps or in none; a step without cases.
    """

    def __init__(self, *, classes: Mapping[str, Sequence[str]], seed: int = 0, **given: Any) -> None:
        self.classes, self.seed = classes, seed
        super().__init__(**given)

    def _entries(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return entries

    @property
    def _opened(self) -> int | None:
        return None

    def _arrivals(self) -> list[Experience]:
        self.hospitals, self.unseen = self._tested(self.hospitals), self._tested(self.unseen)
        steps = self._steps()
        dealt = [self.deal(hospital.train, [organs for _, organs in steps]) for hospital in self.hospitals]
        return [self._experience(i, steps, [parts[i] for parts in dealt]) for i in range(len(steps))]

    def deal(self, cases: Sequence[Case], steps: Sequence[frozenset[str]]) -> list[list[Case]]:
        """The cases of each step, annotated as they are in it, in the order in which they were given."""
        raise NotImplementedError

    def shown(self, organs: Iterable[str]) -> tuple[str, ...]:
        """Organs of which a case must show a voxel to take part in a step; see `Hospital`."""
        return ()

    def _experience(
        self, i: int, steps: Sequence[tuple[str, frozenset[str]]], cases: Sequence[Sequence[Case]]
    ) -> Experience:
        name, organs = steps[i]
        parts = [
            part(hospital, name, own, self.shown(organs), self.limit)
            for hospital, own in zip(self.hospitals, cases, strict=True)
            if own
        ]
        inside = tuple(organ for organ in self.label_space.organs if organ in organs)
        tested = tuple(hospital.name for hospital in parts if hospital.test)
        return Experience(name, tuple(parts), Task(tested, inside))

    def _steps(self) -> list[tuple[str, frozenset[str]]]:
        """Name and new organs of each."""
        if not isinstance(self.classes, Mapping) or not self.classes:
            raise LifelongCTError(
                f"classes={self.classes!r}", "stream.classes", "write {name of the step: [organ, …], …}"
            )
        canonical = self.label_space.vocabulary.canonical
        new = {
            str(name): frozenset(canonical(organ, f"stream.classes {name}") for organ in organs)
            for name, organs in self.classes.items()
        }
        self._check_steps(new)
        if self.first is not None:
            check_first(self.first, len(new), "steps")
        names = [entry["name"] for entry in ordered([{"name": name} for name in new], self.order, "step")]
        return [(name, new[name]) for name in names[: self.first]]

    def _check_steps(self, steps: Mapping[str, frozenset[str]]) -> None:
        often = [organ for organs in steps.values() for organ in organs]
        wrong = [o for o in self.label_space.organs if often.count(o) != 1] + sorted(
            set(often) - set(self.label_space.organs)
        )
        if wrong or not all(steps.values()):
            raise LifelongCTError(
                f"not each organ of the stream is new in one step: {', '.join(wrong) or 'a step has none'}",
                "stream.classes",
                "list every organ of stream.organs in exactly one step",
            )

    def _tested(self, hospitals: Iterable[Hospital]) -> list[Hospital]:
        """With `limit` test cases each."""
        return [replace(hospital, test=hospital.test[: self.limit]) for hospital in hospitals]


def each_once(cases: Sequence[Case], steps: Sequence[frozenset[str]], seed: int) -> list[list[Case]]:
    """Deals every case to one step.

    In the order of a draw that depends on the seed and on what the cases show, each goes to the step that has the fewest
    cases so far, among those whose organs it annotates; to the earliest of equals.

    Returns:
        The cases of each step in the order in which they were given, annotated as before.
    """
    places: list[list[int]] = [[] for _ in steps]
    for i in ranked(cases, "deal", seed):
        able = [own for own, organs in zip(places, steps, strict=True) if organs & set(cases[i].organs)]
        if able:
            min(able, key=len).append(i)
    return [[cases[i] for i in sorted(own)] for own in places]


def only(cases: Iterable[Case], organs: frozenset[str]) -> list[Case]:
    """Cases with nothing annotated but these organs; those that annotate none of them are left out."""
    return [annotating(case, organs) for case in cases if organs & set(case.organs)]
