import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.agreement import agreement, volume_agreement
from lifelong_ct.evaluation.matrix import ResultMatrix

# Bland & Altman 1986, table 1: peak flow of 17 people, first measurement with a Wright and with a mini meter, L/min
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_the_limits_of_bland_and_altman_s_paper() -> None:
    found = agreement(WRIGHT, MINI)
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.bias_interval == (pytest.approx(-22.0, abs=0.1), pytest.approx(17.8, abs=0.1))
    # the paper takes 2 s for 1.96 s, and 3/n for 1/n + 1.92/(n − 1): a limit of 75.5 with 40.9 … 110.1 there
    s = 38.8
    assert found.limits == (pytest.approx(-2.1 - 1.96 * s, abs=0.2), pytest.approx(-2.1 + 1.96 * s, abs=0.2))
    half = 2.120 * s * (1 / 17 + 1.96**2 / 32) ** 0.5
    for limit, interval in zip(found.limits, (found.lower_interval, found.upper_interval), strict=True):
        assert interval == (pytest.approx(limit - half, abs=0.1), pytest.approx(limit + half, abs=0.1))
        assert half == pytest.approx((110.1 - 40.9) / 2, abs=0.7)
    assert (found.cases, found.patients) == (17, 17)


def test_concordance_by_hand() -> None:
    # means 2 and 3, both variances 2/3, covariance 2/3: 2·(2/3) / (2/3 + 2/3 + 1) = 4/7
    assert agreement([2, 3, 4], [1, 2, 3]).concordance == pytest.approx(4 / 7)
    assert agreement([3, 2, 1], [1, 2, 3]).concordance == pytest.approx(-1.0)
    assert agreement([1, 2, 3], [1, 2, 3]).concordance == pytest.approx(1.0)
    assert agreement([5, 5, 5], [5, 5, 5]).concordance is None


def test_the_interval_of_the_concordance_by_hand() -> None:
    """x = 1 2 3 4, y = 2 1 4 3: both variances 5/4, covariance 3/4, no shift: c = r = 3/5; then the variance of z is
    (1 − r²) / ((1 − c²)(n − 2)) = 1/2, and z = atanh 0.6 ± 1.96/√2."""
    low, high = agreement([2, 1, 4, 3], [1, 2, 3, 4]).concordance_interval
    assert (low, high) == (
        pytest.approx(np.tanh(0.693147 - 1.959964 / 2**0.5)),
        pytest.approx(np.tanh(0.693147 + 1.959964 / 2**0.5)),
    )


def test_the_interval_of_the_concordance_covers() -> None:
    """Of 400 samples of 40 pairs with a shift, 95 % of the intervals hold the true coefficient."""
    rng = np.random.default_rng(0)
    truth = 2 * 0.9 / (1 + 1 + 0.3**2)
    held = 0
    for _ in range(400):
        x, e = rng.normal(size=(2, 40))
        low, high = agreement(x, 0.9 * x + (1 - 0.81) ** 0.5 * e + 0.3).concordance_interval
        held += low <= truth <= high
    assert 0.92 < held / 400 < 0.98


def test_two_scans_of_one_person_are_one_witness() -> None:
    once = agreement(WRIGHT, MINI)
    twice = agreement(WRIGHT * 2, MINI * 2, [f"p{i}" for i in range(17)] * 2)
    assert (twice.cases, twice.patients) == (34, 17)
    assert twice.bias == pytest.approx(once.bias)
    narrower = (33 / 34 * 17 / 16) ** -0.5  # of the standard deviation alone: n − 1 against n − 1
    width = [found.bias_interval[1] - found.bias_interval[0] for found in (once, twice)]
    assert width[1] == pytest.approx(width[0] * narrower)


def test_two_patients_have_a_bias_and_no_limits() -> None:
    found = agreement([1.0, 2.0], [1.5, 3.5])
    assert (found.bias, found.limits, found.bias_interval, found.concordance_interval) == (
        -1,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0], [1.0, 2.0]), ([float("nan")], [1.0])])
def test_what_is_no_pair(x: list[float], y: list[float]) -> None:
    with pytest.raises(LifelongCTError, match="agreement"):
        agreement(x, y)


def test_volumes_of_a_matrix() -> None:
    rows = [
        EvaluationRow(1, hospital, case, "liver", metric, value, "p")
        for hospital, case, pair in (
            ("a", "1", (10.0, 12.0)),
            ("b", "1", (20.0, 21.0)),
            ("b", "2", (None, 5.0)),
        )
        for metric, value in zip(("volume_ml", "reference_ml"), pair, strict=True)
    ]
    found = volume_agreement(ResultMatrix(rows))["liver"]
    assert (found.bias, found.cases, found.patients) == (-1.5, 2, 2)
    assert volume_agreement(ResultMatrix(rows), hospital="b")["liver"].bias == -1.0
    assert volume_agreement(ResultMatrix()) == {}


def test_an_absent_organ_that_was_not_predicted_is_no_pair() -> None:
    """Four organs, each 20 mL too small, and 16 scans without it: the bias is −20, not −4."""
    pairs = [(30.0 + i, 50.0 + i) for i in range(4)] + [(0.0, 0.0)] * 16
    rows = [
        EvaluationRow(1, "a", str(i), organ, metric, value)
        for i, (mine, truth) in enumerate(pairs)
        for organ, scale in (("gallbladder", 1.0), ("appendix", 0.0))
        for metric, value in (("volume_ml", scale * mine), ("reference_ml", scale * truth))
    ]
    rows.append(EvaluationRow(1, "a", "0", "liver", "volume_ml", 5.0))
    found = volume_agreement(ResultMatrix(rows))
    assert list(found) == ["gallbladder"], "of the appendix there is no pair, of the liver no reference"
    each = found["gallbladder"]
    assert (each.bias, each.limits) == (-20.0, (-20.0, -20.0))
    assert (each.cases, each.patients, each.absent) == (4, 4, 16)


def test_a_false_organ_and_a_missed_one_are_pairs() -> None:
    rows = [
        EvaluationRow(1, "a", case, "liver", metric, value)
        for case, pair in (("1", (6.0, 0.0)), ("2", (0.0, 10.0)))
        for metric, value in zip(("volume_ml", "reference_ml"), pair, strict=True)
    ]
    found = volume_agreement(ResultMatrix(rows))["liver"]
    assert (found.bias, found.cases, found.absent) == (-2.0, 2, 0)
