"""Runs that differ in their seed only: their ACC under resampling, all together and per kind of label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.types import UNKNOWN, EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.resampling import PatientDraws, over_seeds, patient_of
from lifelong_ct.evaluation.statistics import Interval
from lifelong_ct.reporting.run_folder import Run

ALPHA = 0.05
FEWEST = 6
"""With five patients no test of signs can reach 5 % (2 / 2⁵), and an interval would be a guess."""
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


def values_of(contender: Contender, draws: PatientDraws, metric: str) -> dict[int, Floats]:
    """Seed → ACC `[1 + B]`."""
    found = {
        seed: draws.accuracy(run.matrix, list(run.tasks.values()), metric)
        for seed, run in contender.by_seed.items()
    }
    return {seed: values for seed, values in found.items() if not np.isnan(values[0])}


def patients_of(contender: Contender, metric: str = "dice") -> set[tuple[str, str]]:
    """That ACC counts."""
    return {
        patient_of(run.matrix, hospital, case)
        for run in contender.by_seed.values()
        for task in run.tasks.values()
        for hospital in task.hospitals
        for case in run.matrix.cases(run.matrix.last, hospital, metric=metric)
    }


def interval_of(values: Sequence[Floats], patients: int) -> Interval:
    if not values:
        return Interval(None, None, None, patients)
    drawn = over_seeds(np.stack(values))
    if patients < FEWEST:
        return Interval(float(drawn[0]), None, None, patients)
    low, high = np.nanquantile(drawn[1:], [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(float(drawn[0]), float(low), float(high), patients)


def strata_of(contender: Contender, metric: str, resamples: int) -> dict[str, Interval]:
    """ACC per kind of label; of earlier files the run's kind, where it had one only."""
    parts: dict[str, dict[int, ResultMatrix]] = defaultdict(dict)
    for seed, run in contender.by_seed.items():
        kinds = list(run.info.get("label_kinds") or ())
        whole = str(kinds[0]) if len(kinds) == 1 else UNKNOWN
        rows: dict[str, list[EvaluationRow]] = defaultdict(list)
        last = run.matrix.last
        for row in run.matrix.rows():
            if row.after == last and row.metric == metric:
                rows[row.label_kind or whole].append(row)
        for kind, own in rows.items():
            parts[kind][seed] = ResultMatrix(own)
    found = {}
    for kind, by_seed in sorted(parts.items()):
        part = Contender(kind, tuple(replace(contender.by_seed[s], matrix=m) for s, m in by_seed.items()))
        values = values_of(part, PatientDraws(list(by_seed.values()), resamples), metric)
        found[kind] = interval_of(list(values.values()), len(patients_of(part, metric)))
    return found
