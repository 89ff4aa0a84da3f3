"""May a new model replace an old one? Judged per hospital, organ and metric on the patients that both have scored."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.acceptance_rules import Limits, Rules, nearest
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.noninferiority import NonInferiority, non_inferiority
from lifelong_ct.evaluation.statistics import holm

Decision = Literal["accepted", "undecided", "blocked"]
_SEVERITY: tuple[Decision, ...] = ("accepted", "undecided", "blocked")
_ROUNDING = 1e-9
"""0.80 − 0.85 is a little less than −0.05; nobody means that."""


@dataclass(frozen=True)
class Cell:
    """One hospital, organ and metric. A gain is new − old where more is better, old − new where less is.

    Attributes:
        hospital, organ, metric: which.
        limits: that hold here.
        patients: that both models have a score of.
        missing: patients with a scan that the old model has a score of and the new one has not.
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


@dataclass(frozen=True)
class Judgement:
    """Of a new model.

    Attributes:
        decision: blocked where any cell is; else undecided where any cell is; else accepted.
        cells: every hospital, organ and metric.
        only_new: `hospital`, or `hospital: organ`, that only the new model has scores of; not compared.
        exit_code: 0 where the new model may be used under the rules, 2 otherwise.
    """

    decision: Decision
    cells: tuple[Cell, ...]
    only_new: tuple[str, ...]
    exit_code: int


def judge(old: ResultMatrix, new: ResultMatrix, rules: Rules) -> Judgement:
    """Applies rules to what both models score at their end.

    A cell is blocked where its patients are enough and non-inferiority is not shown, where too many patients lose too
    much, where the worst tenth loses too much, or where patients miss a score; with too few patients where their mean
    lost more than the margin; else too few patients leave it undecided.

    Raises:
        LifelongCTError: they share no scored patient, the old one knows a hospital, organ or metric that the new one
            does not, or the rules name what neither knows.
    """
    _same_hospitals(old, new, rules)
    cells = [
        cell
        for hospital in _chosen(rules.hospitals, _hospitals(old))
        for organ in _chosen(rules.organs, old.organs)
        for metric in rules.metrics
        if (cell := _cell(old, new, hospital, organ, metric, rules)) is not None
    ]
    if not any(cell.patients for cell in cells):
        raise LifelongCTError(
            "the two share no scored case",
            "compare",
            "score both models on the same stream, with the same paths.state: its key makes the pseudonyms of cases",
        )
    adjusted = iter(holm([cell.test.p for cell in cells if cell.test]))
    cells = [_decided(replace(cell, p=next(adjusted)) if cell.test else cell, rules) for cell in cells]
    decisions = {cell.decision for cell in cells}
    decision: Decision = max(decisions, key=_SEVERITY.index)
    stops = decision == "blocked" or (decision == "undecided" and rules.undecided_blocks)
    return Judgement(decision, tuple(cells), _only(new, old), 2 if stops else 0)


def _cell(
    old: ResultMatrix, new: ResultMatrix, hospital: str, organ: str, metric: str, rules: Rules
) -> Cell | None:
    """None where the old model has no score."""
    before, after = (m.cases(m.last, hospital, organ, metric) for m in (old, new))
    if not before:
        return None
    limits, sign = rules.limits(hospital, organ, metric), 1.0 if metric in rules.higher else -1.0
    person = {case: _patient(old, new, hospital, case) for case in before}
    missing = {person[case] for case in before.keys() - after.keys()}
    by_patient: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for case in sorted(before.keys() & after.keys()):
        by_patient[person[case]].append((before[case], after[case]))
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
        old=float(scores[:, 0].mean()),
        new=float(scores[:, 1].mean()),
        gain=float(gains.mean()),
        flips=None if limits.loss is None else int((gains < -limits.loss - _ROUNDING).sum()),
        worst_old=worst[0],
        worst_new=worst[1],
        test=non_inferiority(gains, limits.margin, rules.alpha) if enough else None,
    )


def _decided(cell: Cell, rules: Rules) -> Cell:
    limits, reasons = cell.limits, []
    lost = -cell.gain
    if cell.missing and rules.missing_blocks:
        reasons.append(f"patients without a score of the new model: {cell.missing}")
    if cell.p is None and lost > limits.margin + _ROUNDING:
        reasons.append(
            f"{cell.patients} patients lose {lost:.3f} on average, more than the margin {limits.margin:g}"
        )
    if cell.p is not None and cell.p > rules.alpha:
        reasons.append(
            f"not shown to lose less than the margin {limits.margin:g}: loses {lost:.3f} on average, p {cell.p:.3g}"
        )
    if cell.test and cell.flips is not None and limits.share is not None:
        share = cell.flips / cell.patients
        if share > limits.share + _ROUNDING:
            reasons.append(f"{cell.flips} of {cell.patients} patients lose more than {limits.loss:g}")
    drop = (cell.worst_old - cell.worst_new) * (1 if cell.metric in rules.higher else -1)
    if cell.test and limits.worst_decile is not None and drop > limits.worst_decile + _ROUNDING:
        reasons.append(f"the worst tenth of the patients loses {drop:.3f}, more than {limits.worst_decile:g}")
    if reasons:
        return replace(cell, decision="blocked", reasons=tuple(reasons))
    if cell.test is None:
        few = f"{cell.patients} patients, {rules.minimum_patients} are needed"
        return replace(cell, decision="undecided", reasons=(few,))
    return replace(cell, decision="accepted")


def _worst_tenth(goodness: np.ndarray) -> float:
    """Mean of the lowest tenth of the patients, rounded up to whole ones."""
    return float(np.sort(goodness)[: math.ceil(len(goodness) / 10)].mean())


def _patient(old: ResultMatrix, new: ResultMatrix, hospital: str, case: str) -> str:
    """A file of an earlier version does not know the patient; the other one may."""
    return old.about(hospital, case)[0] or new.about(hospital, case)[0] or case


def _hospitals(matrix: ResultMatrix) -> list[str]:
    """Scored at the end."""
    return [
        h for h in matrix.hospitals if any(matrix.cases(matrix.last, h, metric=m) for m in matrix.metrics)
    ]


def _same_hospitals(old: ResultMatrix, new: ResultMatrix, rules: Rules) -> None:
    known = {"hospital": _hospitals(old), "organ": old.organs, "metric": old.metrics}
    theirs = {"hospital": _hospitals(new), "organ": new.organs, "metric": new.metrics}
    named: dict[str, Sequence[str]] = {
        "hospital": rules.hospitals or known["hospital"],
        "organ": rules.organs or known["organ"],
        "metric": list(rules.metrics),
    }
    for what, names in named.items():
        for name in names:
            for model, has in (("old", known[what]), ("new", theirs[what])):
                if name not in has:
                    raise LifelongCTError(
                        f"the {model} model has no score of the {what} {name!r}",
                        "compare",
                        f"{nearest(name, has)}score both models on the same hospitals, or name in the rules what "
                        f"counts; the {model} one has {', '.join(has) or 'nothing'}",
                    )
    for keys, _ in rules.exceptions:
        for what, name in keys.items():
            if name not in known[what]:
                raise LifelongCTError(
                    f"no {what} is called {name!r}",
                    "exceptions of the rules",
                    f"{nearest(name, known[what])}there are {', '.join(known[what])}",
                )


def _chosen(names: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    return known if names is None else names


def _only(new: ResultMatrix, old: ResultMatrix) -> tuple[str, ...]:
    """What only the new model has scores of."""
    known = _hospitals(old)
    found = []
    for hospital in _hospitals(new):
        if hospital not in known:
            found.append(hospital)
            continue
        for organ in new.organs:
            scored = (
                any(m.cases(m.last, hospital, organ, metric) for metric in m.metrics) for m in (new, old)
            )
            if tuple(scored) == (True, False):
                found.append(f"{hospital}: {organ}")
    return tuple(found)
