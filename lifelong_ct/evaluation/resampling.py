"""ACC under other patients and other seeds: the draws behind a sweep's intervals, marks and ranks.

The same patients are scored for every strategy and seed: the two are crossed, not nested. So a draw takes patients once,
hospital by hospital, for all strategies and seeds, and seeds apart from them (the pigeonhole bootstrap, Owen 2007,
Ann. Appl. Stat. 1:386-411, which errs to the wide side). Patients drawn anew for every seed would average themselves out.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.seeding import generator
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.summary import Among, in_all
from lifelong_ct.evaluation.tasks import Task, seen_after

Floats = npt.NDArray[np.float64]
UNDEFINED = -math.inf
Patient = tuple[str, str]
"""Hospital, pseudonym; of the case where nobody knows the patient."""


def patient_of(matrix: ResultMatrix, hospital: str, case: str) -> Patient:
    """Who is drawn when a case is."""
    return hospital, matrix.about(hospital, case)[0] or case


class PatientDraws:
    """Patients drawn with replacement within each hospital, the same for every matrix.

    Args:
        matrices: whose test cases are drawn, all that were scored after the last experience of each.
        resamples: draws B.
        seed: the same seed gives the same draws.

    Attributes:
        patients: hospital → its patients, in the order of their scores: a pseudonym depends on a key, and what is drawn
            may not.
    """

    def __init__(self, matrices: Sequence[ResultMatrix], resamples: int = 2000, seed: int = 0) -> None:
        hospitals = dict.fromkeys(hospital for matrix in matrices for hospital in matrix.hospitals)
        self.patients = {h: names for h in hospitals if (names := by_scores(matrices, h))}
        self._weights = {}
        for hospital, names in self.patients.items():
            rng = generator("patients", seed, hospital)
            drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
            self._weights[hospital] = np.vstack([np.ones(len(names)), drawn])

    def accuracy(
        self, matrix: ResultMatrix, tasks: Sequence[Task], metric: str = "dice", among: Among | None = None
    ) -> Floats:
        """ACC (`evaluation.transfer.accuracy`) after the last experience, of the cases `among`: float64 `[1 + B]`, first
        of all patients once, then of each draw; NaN where nothing that was drawn has a score."""
        scores = [
            nanmean([self._hospital(matrix, hospital, organs, metric, among or {}) for hospital in hospitals])
            for hospitals, organs in scored(matrix, tasks)
        ]
        return nanmean(scores)

    def _hospital(
        self, matrix: ResultMatrix, hospital: str, organs: Sequence[str], metric: str, among: Among
    ) -> Floats:
        """Mean over organs of the mean over cases, `[1 + B]`."""
        if hospital not in self.patients:
            return np.full(1, np.nan)
        index = {name: i for i, name in enumerate(self.patients[hospital])}
        sums, counts = np.zeros((2, len(index), len(organs)))
        for j, organ in enumerate(organs):
            kept = among.get((hospital, organ))
            for case, value in matrix.cases(matrix.last, hospital, organ, metric, kept).items():
                patient = index[patient_of(matrix, hospital, case)[1]]
                sums[patient, j] += value
                counts[patient, j] += 1
        weights = self._weights[hospital]
        with np.errstate(invalid="ignore"):
            return nanmean(list(((weights @ sums) / (weights @ counts)).T))


def by_scores(matrices: Sequence[ResultMatrix], hospital: str) -> list[str]:
    """Patients of a hospital, ordered by all that was measured of their cases after the last experience of each matrix;
    those that names alone tell apart are interchangeable."""
    measured: dict[tuple[str, str], list[float]] = {}
    for matrix in matrices:
        for case in matrix.scored(matrix.last, hospital):
            measured.setdefault((patient_of(matrix, hospital, case)[1], case), [])
    for matrix in matrices:
        for metric, organ in itertools.product(sorted(matrix.metrics), sorted(matrix.organs)):
            values = matrix.cases(matrix.last, hospital, organ, metric)
            for (_, case), known in measured.items():
                known.append(values.get(case, UNDEFINED))
    own: dict[str, list[list[float]]] = defaultdict(list)
    for (patient, _), known in measured.items():
        own[patient].append(known)
    return sorted(sorted(own), key=lambda patient: sorted(own[patient]))


def over_seeds(values: Floats, seed: int = 0) -> Floats:
    """Mean over seeds drawn with replacement.

    Args:
        values: float64 `[S, 1 + B]`, of each seed, as `PatientDraws.accuracy` gives them.
        seed: of the draws, which are the same for every strategy of S seeds.

    Returns:
        `[1 + B]`, first the mean over all seeds.
    """
    seeds, width = values.shape
    drawn = generator("seeds", seed, seeds).integers(seeds, size=(seeds, width))
    drawn[:, 0] = np.arange(seeds)
    return np.take_along_axis(values, drawn, axis=0).mean(axis=0)


def contributions(
    first: ResultMatrix, second: ResultMatrix, tasks: Sequence[Task], metric: str = "dice"
) -> dict[Patient, float]:
    """What each patient adds to ACC(first) − ACC(second), both over the scores that both have (`in_both`)."""
    total: dict[Patient, float] = defaultdict(float)
    shares = _shares(first, second, tasks, metric)
    for share, hospital, case, difference in shares:
        total[patient_of(first, hospital, case)] += share * difference
    return dict(total)


def in_both(first: ResultMatrix, second: ResultMatrix, metric: str = "dice") -> Among:
    """The cases with a value after the last experience of each: Dice is undefined where an absent organ was not
    predicted, and 0 where it was, so that two models do not have the same scores of the same cases."""
    rows = [
        {h: row for (after, h), row in m.defined(metric).items() if after == m.last} for m in (first, second)
    ]
    return in_all((h, each.get(h, {})) for h in {**rows[0], **rows[1]} for each in rows)


def _shares(
    first: ResultMatrix, second: ResultMatrix, tasks: Sequence[Task], metric: str
) -> Iterator[tuple[float, str, str, float]]:
    """(weight in ACC, hospital, case, difference) of every score."""
    own = [
        {hospital: _differences(first, second, hospital, organs, metric) for hospital in hospitals}
        for hospitals, organs in scored(first, tasks)
    ]
    own = [kept for task in own if (kept := {hospital: d for hospital, d in task.items() if d})]
    for task in own:
        for hospital, organs_of in task.items():
            for cases in organs_of:
                for case, difference in cases.items():
                    yield 1 / (len(own) * len(task) * len(organs_of) * len(cases)), hospital, case, difference


def _differences(
    first: ResultMatrix, second: ResultMatrix, hospital: str, organs: Sequence[str], metric: str
) -> list[dict[str, float]]:
    """Case → difference, for each organ that has any."""
    found = []
    for organ in organs:
        before = second.cases(second.last, hospital, organ, metric)
        after = first.cases(first.last, hospital, organ, metric)
        if both := {case: after[case] - before[case] for case in after if case in before}:
            found.append(both)
    return found


def scored(matrix: ResultMatrix, tasks: Sequence[Task]) -> list[tuple[tuple[str, ...], Sequence[str]]]:
    """Hospitals and organs that ACC counts, task by task: of a task with organs only those annotated so far."""
    seen = seen_after(tasks, matrix.last)
    organs = [task.learnable(seen) for task in tasks]
    return [(t.hospitals, matrix.organs if o is None else o) for t, o in zip(tasks, organs, strict=True)]


def nanmean(rows: Sequence[Floats]) -> Floats:
    """Mean of what is not NaN, column by column; NaN where a column has nothing."""
    if not rows:
        return np.full(1, np.nan)
    values = np.stack(np.broadcast_arrays(*rows))
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
