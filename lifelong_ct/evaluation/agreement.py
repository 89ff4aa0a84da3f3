"""Do two measurements of a volume agree? Bias, limits of agreement and concordance, with intervals."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.resampling import Patient, patient_of

FEWEST = 3
"""Fewer patients than this have a spread that means nothing."""
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """How a predicted volume agrees with its reference.

    Attributes:
        bias: mean of prediction − reference, in the unit of both.
        limits: bias ± 1.96 standard deviations: where 95 % of the differences lie, were they normal.
        concordance: Lin's coefficient in [−1, 1]; None where neither of the two varies.
        bias_interval, lower_interval, upper_interval, concordance_interval: confidence intervals of these; None where
            there are too few patients, or no spread.
        cases, patients: numbers of pairs, and of the people that they come from.
        absent: cases besides, in which both volumes are 0.
    """

    bias: float
    limits: Bounds | None
    concordance: float | None
    bias_interval: Bounds | None
    lower_interval: Bounds | None
    upper_interval: Bounds | None
    concordance_interval: Bounds | None
    cases: int
    patients: int
    absent: int = 0


class VolumePairs(NamedTuple):
    """Of one organ, a value per case, in mL: `volume_ml`, `reference_ml`, whose and where. A case in which both are 0 is no
    pair: that an absent organ was not found says nothing of the size of those that are there, and would draw the bias to 0.
    `absent` counts them."""

    predicted: list[float]
    reference: list[float]
    patients: list[Patient]
    absent: int


def agreement(
    predicted: Sequence[float],
    reference: Sequence[float],
    patients: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Agreement:
    """Bland–Altman limits (Lancet 1986; 327:307-310) and Lin's concordance (Biometrics 1989; 45:255-268).

    With differences d of mean b and standard deviation s, limits are b ± 1.96 s. Standard errors are s/√n of b and
    s √(1/n + 1.96²/(2 (n − 1))) of a limit (Bland & Altman, Stat. Methods Med. Res. 1999; 8:135-160, section 2.1), with
    Student's t of n − 1 degrees. n counts patients: two scans of one person are no two witnesses.

    Args:
        predicted, reference: one pair per case.
        patients: of each pair; each its own where None.
        confidence: coverage in (0, 1).

    Raises:
        LifelongCTError: no pair, lengths differ, or a value that is not finite.
    """
    x, y = np.asarray(predicted, np.float64), np.asarray(reference, np.float64)
    if not len(x) or x.shape != y.shape or not np.isfinite([x, y]).all():
        raise LifelongCTError(
            f"{len(x)} predicted and {len(y)} reference volumes",
            "agreement",
            "give finite pairs, at least one",
        )
    names = range(len(x)) if patients is None else patients
    n = len(set(names))
    difference = x - y
    bias = float(difference.mean())
    concordance = _concordance(x, y)
    if n < FEWEST:
        return Agreement(bias, None, concordance, None, None, None, None, len(x), n)
    spread = float(difference.std(ddof=1))
    z, t = stats.norm.ppf(0.975), stats.t.ppf((1 + confidence) / 2, n - 1)
    low, high = bias - z * spread, bias + z * spread
    around = t * spread / math.sqrt(n)
    beside = t * spread * math.sqrt(1 / n + z**2 / (2 * (n - 1)))
    return Agreement(
        bias,
        (low, high),
        concordance,
        (bias - around, bias + around),
        (low - beside, low + beside),
        (high - beside, high + beside),
        _concordance_interval(x, y, concordance, n, confidence),
        len(x),
        n,
    )


def volume_agreement(
    matrix: ResultMatrix, after: int | None = None, hospital: str | None = None
) -> dict[str, Agreement]:
    """Organ → agreement of `volume_pairs`."""
    return {
        organ: replace(agreement(each.predicted, each.reference, each.patients), absent=each.absent)
        for organ, each in volume_pairs(matrix, after, hospital).items()
    }


def volume_pairs(
    matrix: ResultMatrix, after: int | None = None, hospital: str | None = None
) -> dict[str, VolumePairs]:
    """Organ → its pairs after an experience (the last where None), at one hospital or all; no organ without any."""
    after = matrix.last if after is None else after
    hospitals = matrix.hospitals if hospital is None else [hospital]
    found: dict[str, VolumePairs] = {}
    for organ in matrix.organs:
        rows = [
            (volume, truth, patient_of(matrix, name, case))
            for name in hospitals
            for truths in [matrix.cases(after, name, organ, "reference_ml")]
            for case, volume in matrix.cases(after, name, organ, "volume_ml").items()
            if (truth := truths.get(case)) is not None
        ]
        if present := [row for row in rows if row[0] or row[1]]:
            predicted, reference, patients = map(list, zip(*present, strict=True))
            found[organ] = VolumePairs(predicted, reference, patients, len(rows) - len(present))
    return found


def _concordance(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float | None:
    """2 s_xy / (s_x² + s_y² + (x̄ − ȳ)²), moments over n (Lin 1989, eq. 2)."""
    below = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    if below == 0:
        return None
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / below)


def _concordance_interval(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], c: float | None, n: int, confidence: float
) -> Bounds | None:
    """By Fisher's z, with the variance of Lin 1989, section 3, as corrected in Biometrics 2000; 56:324-325."""
    scale = float(x.std() * y.std())
    if c is None or scale == 0:
        return None
    r = float(np.mean((x - x.mean()) * (y - y.mean())) / scale)
    if r == 0 or abs(c) >= 1 - 1e-12:
        return None
    u = float((x.mean() - y.mean()) ** 2 / scale)  # Lin's u²
    variance = (
        (1 - r**2) * c**2 / ((1 - c**2) * r**2)
        + 2 * c**3 * (1 - c) * u / (r * (1 - c**2) ** 2)
        - c**4 * u**2 / (2 * r**2 * (1 - c**2) ** 2)
    ) / (n - 2)
    beside = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(max(variance, 0.0))
    return math.tanh(math.atanh(c) - beside), math.tanh(math.atanh(c) + beside)
