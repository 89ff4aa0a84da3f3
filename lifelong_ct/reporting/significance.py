"""Which strategies of a sweep differ, beyond chance: intervals, marks, ranks, and scores per kind of label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.types import UNKNOWN, EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.ranking import Rank, kendall_w, stability
from lifelong_ct.evaluation.resampling import PatientDraws, contributions, over_seeds, patient_of
from lifelong_ct.evaluation.statistics import Interval, holm, paired_test
from lifelong_ct.evaluation.transfer import mean_defined
from lifelong_ct.reporting.run_folder import Run
from lifelong_ct.reporting.text import plural

ALPHA = 0.05
FEWEST = 6
"""With five patients no test of signs can reach 5 % (2 / 2⁵), and an interval would be a guess."""
Mark = Literal["better", "worse", "not shown", "too few"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Contender:
    """Runs of one strategy.

    Attributes:
        label: unique.
        runs: that differ in their seed.
        rival: whether it can be the best and is tested; an upper bound is not.
        baseline: what others are compared with, too.
    """

    label: str
    runs: tuple[Run, ...]
    rival: bool = True
    baseline: bool = False

    @property
    def by_seed(self) -> dict[int, Run]:
        """Seed → its run; a run without scores is none."""
        return {int(run.info.get("seed", 0)): run for run in self.runs if run.matrix.hospitals}


@dataclass(frozen=True)
class Versus:
    """A strategy against another, in ACC at the end, on the same patients and seeds.

    Attributes:
        other: label.
        difference: own − other's; None where no seed and patient is shared.
        low, high: 95 % interval over seeds and patients; None where there are too few patients.
        p: of the paired test over patients, after Holm's correction over all pairs of the section.
        patients, seeds: that both have.
        mark: better or worse where p <= 0.05 and the interval leaves 0 out.
    """

    other: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    patients: int
    seeds: int
    mark: Mark

    def turned(self, label: str) -> Versus:
        """Seen from the other side, which compares with `label`."""
        mark: dict[Mark, Mark] = {"better": "worse", "worse": "better"}
        difference, low, high = (None if x is None else -x for x in (self.difference, self.high, self.low))
        return replace(
            self, other=label, difference=difference, low=low, high=high, mark=mark.get(self.mark, self.mark)
        )


@dataclass(frozen=True)
class Judged:
    """A strategy in its section.

    Attributes:
        interval: ACC at the end, mean over seeds, with its 95 % interval over seeds and patients.
        best, baseline: against the best one and the baseline; None for these themselves and where there is none.
        rank: under resampling; None where there is nothing to rank.
        strata: kind of label → ACC on its cases alone.
        note: what the numbers cannot tell, such as `3 patients: no interval`; or empty.
    """

    interval: Interval
    best: Versus | None
    baseline: Versus | None
    rank: Rank | None
    strata: Mapping[str, Interval]
    note: str


@dataclass(frozen=True)
class Verdicts:
    """Of a section.

    Attributes:
        rows: by label.
        tau: mean Kendall τ-b of the order under resampling (`ranking.stability`).
        agreement: Kendall's W of the seeds on the order; None for one seed.
    """

    rows: Mapping[str, Judged]
    tau: float | None
    agreement: float | None


def judge(contenders: Sequence[Contender], metric: str = "dice", resamples: int = 2000) -> Verdicts:
    """Judges strategies that learnt the same in the same order.

    Tests are of all pairs of rivals, since the best is picked by the same data; two-sided, of the signs of what each
    patient adds to the difference (mean over shared seeds). They say whether other patients would show it; the interval,
    over seeds too, whether other seeds would. A mark needs both.
    """
    draws = PatientDraws([run.matrix for c in contenders for run in c.runs], resamples)
    values = {c.label: _values(c, draws, metric) for c in contenders}
    rivals = [c for c in contenders if c.rival and values[c.label]]
    pairs = list(combinations(rivals, 2))
    found = [_versus(a, b, values[a.label], values[b.label], metric) for a, b in pairs]
    adjusted = iter(holm([v.p for v in found if v.p is not None]))
    marked = [v if v.p is None else _marked(v, next(adjusted)) for v in found]
    between: dict[tuple[str, str], Versus] = {}
    for (a, b), versus in zip(pairs, marked, strict=True):
        between[a.label, b.label] = versus
        between[b.label, a.label] = versus.turned(a.label)
    best = max(rivals, key=lambda c: _mean(values[c.label]), default=None)
    baseline = next((c for c in rivals if c.baseline), None)
    ranks, tau, agreement = _ranking(rivals, values)
    rows = {}
    for c in contenders:
        interval = _interval(list(values[c.label].values()), len(_patients(c, metric)))
        rows[c.label] = Judged(
            interval,
            between.get((c.label, best.label)) if best else None,
            between.get((c.label, baseline.label)) if baseline else None,
            ranks.get(c.label),
            _strata(c, metric, resamples),
            _note(interval, len(values[c.label])),
        )
    return Verdicts(rows, tau, agreement)


def _values(contender: Contender, draws: PatientDraws, metric: str) -> dict[int, Floats]:
    """Seed → ACC `[1 + B]`."""
    found = {
        seed: draws.accuracy(run.matrix, list(run.tasks.values()), metric)
        for seed, run in contender.by_seed.items()
    }
    return {seed: values for seed, values in found.items() if not np.isnan(values[0])}


def _versus(
    a: Contender, b: Contender, own: dict[int, Floats], other: dict[int, Floats], metric: str
) -> Versus:
    """Before any correction."""
    seeds = sorted(own.keys() & other.keys())
    if not seeds:
        return Versus(b.label, None, None, None, None, 0, 0, "too few")
    added: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in seeds:
        one, two = a.by_seed[seed], b.by_seed[seed]
        for patient, value in contributions(one.matrix, two.matrix, list(one.tasks.values()), metric).items():
            added[patient].append(value)
    each = [sum(values) / len(seeds) for _, values in sorted(added.items())]
    drawn = over_seeds(np.stack([own[seed] - other[seed] for seed in seeds]))
    difference = float(drawn[0])
    if len(each) < FEWEST:
        return Versus(b.label, difference, None, None, None, len(each), len(seeds), "too few")
    low, high = np.nanquantile(drawn[1:], [ALPHA / 2, 1 - ALPHA / 2])
    p = paired_test(each, [0.0] * len(each))
    return Versus(b.label, difference, float(low), float(high), p, len(each), len(seeds), "not shown")


def _marked(versus: Versus, p: float) -> Versus:
    """With the corrected p-value."""
    mark: Mark = "not shown"
    if p <= ALPHA and versus.low is not None and versus.high is not None and versus.low * versus.high > 0:
        mark = "better" if versus.low > 0 else "worse"
    return replace(versus, p=p, mark=mark)


def _ranking(
    rivals: Sequence[Contender], values: Mapping[str, dict[int, Floats]]
) -> tuple[dict[str, Rank], float | None, float | None]:
    """Ranks by label, τ and W, over the seeds that all rivals have."""
    shared = sorted(set.intersection(*(set(values[c.label]) for c in rivals))) if len(rivals) > 1 else []
    if not shared or max(len(_patients(c)) for c in rivals) < FEWEST:
        return {}, None, None
    by_seed = np.stack([[values[c.label][seed] for c in rivals] for seed in shared])  # [S, K, 1 + B]
    found = stability(np.stack([over_seeds(by_seed[:, k]) for k in range(len(rivals))], axis=1))
    ranks = {c.label: rank for c, rank in zip(rivals, found.ranks, strict=True)}
    return ranks, found.tau, kendall_w(by_seed[:, :, 0].tolist())


def _strata(contender: Contender, metric: str, resamples: int) -> dict[str, Interval]:
    """ACC per kind of label; of earlier files the run's kind, where it had one only."""
    parts: dict[str, dict[int, ResultMatrix]] = defaultdict(dict)
    for seed, run in contender.by_seed.items():
        kinds = list(run.info.get("label_kinds") or ())
        whole = str(kinds[0]) if len(kinds) == 1 else UNKNOWN
        rows: dict[str, list[EvaluationRow]] = defaultdict(list)
        for row in run.matrix.rows():
            if row.after == run.matrix.last and row.metric == metric:
                rows[row.label_kind or whole].append(row)
        for kind, own in rows.items():
            parts[kind][seed] = ResultMatrix(own)
    found = {}
    for kind, by_seed in sorted(parts.items()):
        part = Contender(kind, tuple(replace(contender.by_seed[s], matrix=m) for s, m in by_seed.items()))
        values = _values(part, PatientDraws(list(by_seed.values()), resamples), metric)
        found[kind] = _interval(list(values.values()), len(_patients(part, metric)))
    return found


def _patients(contender: Contender, metric: str = "dice") -> set[tuple[str, str]]:
    """That ACC counts."""
    return {
        patient_of(run.matrix, hospital, case)
        for run in contender.by_seed.values()
        for task in run.tasks.values()
        for hospital in task.hospitals
        for case in run.matrix.cases(run.matrix.last, hospital, metric=metric)
    }


def _interval(values: Sequence[Floats], patients: int) -> Interval:
    if not values:
        return Interval(None, None, None, patients)
    drawn = over_seeds(np.stack(values))
    if patients < FEWEST:
        return Interval(float(drawn[0]), None, None, patients)
    low, high = np.nanquantile(drawn[1:], [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(float(drawn[0]), float(low), float(high), patients)


def _mean(values: Mapping[int, Floats]) -> float:
    return mean_defined(v[0] for v in values.values()) or 0.0


def _note(interval: Interval, seeds: int) -> str:
    if interval.mean is None:
        return "no score"
    if interval.patients < FEWEST:
        return f"{plural(interval.patients, 'patient')}: no interval"
    return "1 seed: the interval says nothing about other seeds" if seeds == 1 else ""
