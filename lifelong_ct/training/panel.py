"""Which test cases are scored when: all at the end of a stream, a bounded panel before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lifelong_ct.core.types import Case
from lifelong_ct.data.marks import ranked
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.streams.base import Stream
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.training.options import RunOptions


class Panel:
    """The cases and hospitals of each evaluation.

    Scoring every case of every hospital after every experience grows with the square of the hospitals. In between, a
    hospital is represented by `cases` of its test cases, and at most `hospitals` hospitals are scored: those of the
    experience that has just been learnt and of the one that comes next, which most measures need, then those that have
    not been scored for longest. Before any training, and at the end, every hospital is.

    Args:
        stream: its hospitals and experiences.
        cases: of each hospital, in between; None for all.
        hospitals: scored in between; None for all.
    """

    def __init__(self, stream: Stream, cases: int | None = None, hospitals: int | None = None) -> None:
        self.stream, self.cases, self.most = stream, cases, hospitals
        self._reduced: dict[str, Hospital] = {}

    @classmethod
    def of(cls, options: RunOptions) -> Panel:
        """Of a run."""
        return cls(options.stream, options.evaluation.panel, options.evaluation.panel_hospitals)

    def after(self, experience: int, last: bool, matrix: ResultMatrix) -> list[Hospital]:
        """Hospitals to score at the end of an experience, with the cases to score.

        Args:
            experience: its number; 0 before any training.
            last: whether the stream ends with it.
            matrix: what was scored before.

        Raises:
            DataError: a test case cannot be read.
        """
        everybody = self.stream.scored
        if last:
            return list(everybody)
        if experience == 0 or self.most is None or len(everybody) <= self.most:
            return [self._panel(hospital) for hospital in everybody]
        wanted = self._due(experience, matrix)
        return [self._panel(hospital) for hospital in everybody if hospital.name in wanted]

    def within(self, experience: int) -> list[Hospital]:
        """Hospitals to score while an experience is learnt, the same all the way: its own, and of the earlier ones those
        learnt last, which have the most to lose, as far as `hospitals` allows."""
        learnt = [h for e in self.stream.experiences[:experience][::-1] for h in e.task.hospitals]
        own = len(set(self.stream.experiences[experience - 1].task.hospitals))
        most = None if self.most is None else max(self.most, own)
        wanted = list(dict.fromkeys(learnt))[:most]
        return [self._panel(hospital) for hospital in self.stream.scored if hospital.name in wanted]

    def _due(self, experience: int, matrix: ResultMatrix) -> frozenset[str]:
        near = self.stream.experiences[experience - 1 : experience + 1]
        wanted = {hospital for each in near for hospital in each.task.hospitals}
        when = _last_scored(matrix)
        rest = [h.name for h in self.stream.scored if h.name not in wanted]
        rest.sort(key=lambda name: when.get(name, -1))  # stable: else in the order of the stream
        return frozenset(wanted | set(rest[: max(0, (self.most or 0) - len(wanted))]))

    def _panel(self, hospital: Hospital) -> Hospital:
        if hospital.name not in self._reduced:
            self._reduced[hospital.name] = replace(hospital, test=chosen(hospital.test, self.cases))
        return self._reduced[hospital.name]


def chosen(cases: Sequence[Case], count: int | None) -> tuple[Case, ...]:
    """`count` of the cases in their order, by what they show, never by name or place: first those that annotate an organ
    that none before them does.

    Raises:
        DataError: a case cannot be read.
    """
    if count is None or len(cases) <= count:
        return tuple(cases)
    order = ranked(cases, "evaluation panel")
    first, known = [], set[str]()
    for i in order:
        if not known.issuperset(cases[i].organs):
            first.append(i)
            known.update(cases[i].organs)
    kept = list(dict.fromkeys([*first, *order]))[:count]
    return tuple(cases[i] for i in sorted(kept))


def _last_scored(matrix: ResultMatrix) -> Mapping[str, int]:
    when: dict[str, int] = {}
    for after, hospital in matrix.scored_cases():
        when[hospital] = max(after, when.get(hospital, -1))
    return when
