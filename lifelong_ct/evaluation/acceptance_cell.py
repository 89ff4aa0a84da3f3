"""One hospital, organ and metric of a comparison: what both models score there, and what the rules say to it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from lifelong_ct.evaluation.acceptance_rules import OVERLAP, Limits, Rules
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.noninferiority import NonInferiority, non_inferiority

Decision = Literal["accepted", "undecided", "blocked"]
_ROUNDING = 1e-9
"""0.80 − 0.85 is a little less than −0.05; nobody means that."""


@dataclass(frozen=True)
class Cell:
    """One hospital, organ and metric. A gain is new − old where more is better, old − new where less is.

    Attributes:
        hospital, organ, metric: which.
        limits: that hold here.
        patients: that both models have a score of, and those whose absent organ one of them has drawn.
        missing: patients with a scan that the old model has a score of and the new one has not.
        higher: whether more is better.
        old, new: means over `patients`; NaN, as below, where there are none.
        gain: mean over patients.
        flips: patients who lose more than `limits.loss`; None without that limit.
        worst_old, worst_new: means of each model's own worst tenth of the patients.
        test: of non-inferiority; None where there are too few patients.
        p: of the test after Holm's correction over all cells that have one.
        decision: of this cell.
        reasons: why it is not accepted.
    """

    hospital: str
    organ: str
    metric: str
    limits: Limits
    patients: int
    missing: int
    higher: bool = True
    old: float = math.nan
    new: float = math.nan
    gain: float = math.nan
    flips: int | None = None
    worst_old: float = math.nan
    worst_new: float = math.nan
    test: NonInferiority | None = None
    p: float | None = None
    decision: Decision = "undecided"
    reasons: tuple[str, ...] = ()

    @property
    def flips_above(self) -> bool:
        """Whether more patients lose much than may."""
        share = self.limits.share
        return self.flips is not None and share is not None and self.flips > share * self.patients + _ROUNDING

    @property
    def drop(self) -> float:
        """What the worst tenth lost."""
        return (self.worst_old - self.worst_new) * (1 if self.higher else -1)


def scored(
    old: ResultMatrix, new: ResultMatrix, hospital: str, organ: str, metric: str, rules: Rules
) -> Cell | None:
    """Compares the patients that both have scored, without a decision; None where there is nothing to compare.

    Overlap (Dice, IoU, NSD) is undefined where reference and prediction are empty, and 0 where only one of them is. So
    where one model has 0 and the other nothing, the other has rightly left out an organ that is absent: 1 for it here.
    """
    before, after = (m.outcomes(m.last, hospital, organ, metric) for m in (old, new))
    limits, higher = rules.limits(hospital, organ, metric), metric in rules.higher
    sign = 1.0 if higher else -1.0
    overlap = higher and metric.startswith(OVERLAP)
    if overlap:
        before, after = _absence_counts(before, after), _absence_counts(after, before)
    lacking = _lacking(before, after, overlap)
    by_patient: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for case in sorted(before.keys() & after.keys()):
        first, second = before[case], after[case]
        if first is not None and second is not None:
            by_patient[_patient(old, new, hospital, case)].append((first, second))
    missing = {_patient(old, new, hospital, case) for case in lacking}
    if not by_patient and not missing:
        return None
    if not by_patient:
        return Cell(hospital, organ, metric, limits, patients=0, missing=len(missing))
    scores = np.array([np.mean(pairs, axis=0) for pairs in by_patient.values()])
    gains = sign * (scores[:, 1] - scores[:, 0])
    worst = [_worst_tenth(sign * scores[:, i]) * sign for i in (0, 1)]
    enough = len(gains) >= rules.minimum_patients
    return Cell(
        hospital,
        organ,
        metric,
        limits,
        patients=len(gains),
        missing=len(missing),
        higher=higher,
        old=float(scores[:, 0].mean()),
        new=float(scores[:, 1].mean()),
        gain=float(gains.mean()),
        flips=None if limits.loss is None else int((gains < -limits.loss - _ROUNDING).sum()),
        worst_old=worst[0],
        worst_new=worst[1],
        test=non_inferiority(gains, limits.margin, rules.alpha) if enough else None,
    )


def decided(cell: Cell, rules: Rules) -> Cell:
    """With its decision and the reasons; `p` is already corrected."""
    limits, reasons = cell.limits, []
    lost = -cell.gain
    people = _people(cell.patients)
    if cell.missing and rules.missing_blocks:
        reasons.append(f"the new model lacks a score of {_people(cell.missing)}")
    if cell.p is None and lost > limits.margin + _ROUNDING:
        reasons.append(f"{lost:.3g} lost on average over {people}, more than the margin {limits.margin:g}")
    if cell.p is not None and cell.p > rules.alpha:
        reasons.append(
            f"not shown to lose less than the margin {limits.margin:g}: mean gain {cell.gain:+.3g}, p = {cell.p:.3g}"
        )
    if cell.flips_above and cell.test:
        reasons.append(f"{cell.flips} of {people} lost more than {limits.loss:g}")
    if cell.test and limits.worst_decile is not None and cell.drop > limits.worst_decile + _ROUNDING:
        reasons.append(f"the worst tenth of {people} lost {cell.drop:.3g}, more than {limits.worst_decile:g}")
    if reasons:
        return replace(cell, decision="blocked", reasons=tuple(reasons))
    if cell.test is None:
        few = f"{people}, {rules.minimum_patients} are needed"
        return replace(cell, decision="undecided", reasons=(few,))
    return replace(cell, decision="accepted")


def _absence_counts(
    mine: Mapping[str, float | None], theirs: Mapping[str, float | None]
) -> dict[str, float | None]:
    """With 1 where mine is undefined and theirs is 0. Overlap above 0 needs an organ: undefined is then no score."""
    return {case: 1.0 if v is None and theirs.get(case) == 0 else v for case, v in mine.items()}


def _lacking(
    before: Mapping[str, float | None], after: Mapping[str, float | None], overlap: bool
) -> list[str]:
    """Cases with a score of the old model and none of the new; of overlap also those that the old one rightly left empty
    and the new one was never asked about."""
    unasked = before.keys() - after.keys() if overlap else set()
    lost = (case for case, value in before.items() if value is not None and after.get(case) is None)
    return sorted({*unasked, *lost})


def _people(count: int) -> str:
    return f"{count} patient" if count == 1 else f"{count} patients"


def _worst_tenth(goodness: npt.NDArray[np.float64]) -> float:
    """Mean of the lowest tenth of the patients, rounded up to whole ones."""
    return float(np.sort(goodness)[: math.ceil(len(goodness) / 10)].mean())


def _patient(old: ResultMatrix, new: ResultMatrix, hospital: str, case: str) -> str:
    """A file of an earlier version does not know the patient; the other one may."""
    return old.about(hospital, case)[0] or new.about(hospital, case)[0] or case
