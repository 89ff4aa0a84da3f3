"""What differences between scores are worth: intervals over patients, paired tests, many comparisons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator


class Interval(NamedTuple):
    """A mean over patients with its confidence interval; None where fewer than two patients gave one."""

    mean: float | None
    low: float | None
    high: float | None
    patients: int


def bootstrap_interval(
    values: Sequence[float | None],
    patients: Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of the mean over patients (Efron & Tibshirani 1993, ch. 13.3).

    Patients are drawn, not cases: two scans of one person are no two witnesses. A patient with several
    values counts once, with their mean. With few patients the interval is too narrow, as any bootstrap's.

    Args:
        values: one score per case; None is left out.
        patients: the patient of each value; each value its own patient where None.
        confidence: coverage in (0, 1).
        resamples: bootstrap draws.
        seed: the same seed gives the same interval.

    Raises:
        LifelongCTError: lengths differ.
    """
    names = [str(i) for i in range(len(values))] if patients is None else patients
    _same_length(values, names, "values", "patients")
    by_patient: dict[str, list[float]] = defaultdict(list)
    for name, value in zip(names, values, strict=True):
        if value is not None:
            by_patient[name].append(value)
    means = np.array([np.mean(v) for v in by_patient.values()])
    n = len(means)
    if n < 2:
        return Interval(float(means[0]) if n else None, None, None, n)
    rng = generator("bootstrap", seed)
    drawn = [means[rng.integers(n, size=n)].mean() for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(means.mean()), float(low), float(high), n)


def paired_test(
    first: Sequence[float],
    second: Sequence[float],
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of "no difference" between paired scores, one pair per patient: a permutation of the signs of the
    differences, statistic their mean, exact where 2^n does not exceed `resamples`.

    Args:
        first, second: scores of the same patients in the same order.
        resamples: sign draws.
        seed: of those draws.

    Returns:
        p in (0, 1]; 1 where no pair differs.

    Raises:
        LifelongCTError: lengths differ, or no pair.
    """
    _same_length(first, second, "first", "second")
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if not len(differences):
        raise LifelongCTError(
            "there is no pair to compare", "paired test", "compare runs that share test cases"
        )
    if not differences.any():
        return 1.0
    if len(differences) == 1:
        return 1.0  # both signs are as far from zero; scipy wants two pairs
    rng = generator("permutation", seed)
    if 2 ** len(differences) > resamples:
        sizes = np.abs(differences)
        drawn = stats.monte_carlo_test(
            differences,
            lambda size: sizes * (2.0 * rng.integers(2, size=size) - 1.0),
            lambda d, axis: np.mean(d, axis=axis),
            vectorized=True,
            n_resamples=resamples,
        )
        return float(drawn.pvalue)
    exact = stats.permutation_test(
        (differences,),
        lambda d, axis: np.mean(d, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
    )
    return float(exact.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the family-wise error (Holm 1979, Scand. J. Stat. 6:65-70).

    With the m p-values sorted, the i-th becomes max over j <= i of min(1, (m − j + 1) p_j).

    Returns:
        Adjusted values in the order of the input; compare them with alpha.
    """
    order = np.argsort(np.asarray(p_values, np.float64), kind="stable")
    m = len(order)
    adjusted = [0.0] * m
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (m - rank) * float(p_values[index])))
        adjusted[index] = highest
    return adjusted


def _same_length(a: Sequence[object], b: Sequence[object], name_a: str, name_b: str) -> None:
    if len(a) != len(b):
        raise LifelongCTError(
            f"{len(a)} {name_a} but {len(b)} {name_b}", "statistics", "give one entry of each per case"
        )
