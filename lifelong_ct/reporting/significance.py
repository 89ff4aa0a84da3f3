"""Which strategies of a sweep differ, beyond chance: intervals, marks, ranks, and scores per kind of label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from lifelong_ct.evaluation.ranking import Rank, kendall_w, stability
from lifelong_ct.evaluation.resampling import PatientDraws, contributions, in_both, over_seeds
from lifelong_ct.evaluation.statistics import Interval, holm, paired_test
from lifelong_ct.evaluation.transfer import mean_defined
from lifelong_ct.reporting.contenders import (
    ALPHA,
    FEWEST,
    Contender,
    Floats,
    interval_of,
    patients_of,
    strata_of,
    values_of,
)
from lifelong_ct.reporting.text import plural

Mark = Literal["better", "worse", "not shown", "too few"]


@dataclass(frozen=True)
class Versus:
    """A strategy against another, in ACC at the end, on the same patients and seeds.

    Attributes:
        other: label.
        difference: own − other's, over the scores that both have; None where no seed and patient is shared.
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
    values = {c.label: values_of(c, draws, metric) for c in contenders}
    rivals = [c for c in contenders if c.rival and values[c.label]]
    pairs = list(combinations(rivals, 2))
    found = [_versus(a, b, draws, values, metric) for a, b in pairs]
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
        interval = interval_of(list(values[c.label].values()), len(patients_of(c, metric)))
        rows[c.label] = Judged(
            interval,
            between.get((c.label, best.label)) if best else None,
            between.get((c.label, baseline.label)) if baseline else None,
            ranks.get(c.label),
            strata_of(c, metric, resamples),
            _note(interval, len(values[c.label])),
        )
    return Verdicts(rows, tau, agreement)


def _versus(
    a: Contender, b: Contender, draws: PatientDraws, values: Mapping[str, dict[int, Floats]], metric: str
) -> Versus:
    """Before any correction. Difference, interval and test are over the same scores, those that both have."""
    added: dict[tuple[str, str], list[float]] = defaultdict(list)
    apart: list[Floats] = []
    for seed in sorted(a.by_seed.keys() & b.by_seed.keys()):
        one, two, tasks = a.by_seed[seed].matrix, b.by_seed[seed].matrix, list(a.by_seed[seed].tasks.values())
        if not (shares := contributions(one, two, tasks, metric)):
            continue
        if among := in_both(one, two, metric):
            drawn = [draws.accuracy(matrix, tasks, metric, among) for matrix in (one, two)]
        else:
            drawn = [values[c.label][seed] for c in (a, b)]
        apart.append(drawn[0] - drawn[1])
        for patient, value in shares.items():
            added[patient].append(value)
    if not apart:
        return Versus(b.label, None, None, None, None, 0, 0, "too few")
    each = sorted(sum(own) / len(apart) for own in added.values())  # no order of pseudonyms
    both = over_seeds(np.stack(apart))
    difference = float(both[0])
    if len(each) < FEWEST:
        return Versus(b.label, difference, None, None, None, len(each), len(apart), "too few")
    low, high = np.nanquantile(both[1:], [ALPHA / 2, 1 - ALPHA / 2])
    p = paired_test(each, [0.0] * len(each))
    return Versus(b.label, difference, float(low), float(high), p, len(each), len(apart), "not shown")


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
    if not shared or max(len(patients_of(c)) for c in rivals) < FEWEST:
        return {}, None, None
    by_seed = np.stack([[values[c.label][seed] for c in rivals] for seed in shared])  # [S, K, 1 + B]
    found = stability(np.stack([over_seeds(by_seed[:, k]) for k in range(len(rivals))], axis=1))
    ranks = {c.label: rank for c, rank in zip(rivals, found.ranks, strict=True)}
    return ranks, found.tau, kendall_w(by_seed[:, :, 0].tolist())


def _mean(values: Mapping[int, Floats]) -> float:
    return mean_defined(v[0] for v in values.values()) or 0.0


def _note(interval: Interval, seeds: int) -> str:
    if interval.mean is None:
        return "no score"
    if interval.patients < FEWEST:
        return f"{plural(interval.patients, 'patient')}: no interval"
    return "1 seed: the interval says nothing about other seeds" if seeds == 1 else ""
