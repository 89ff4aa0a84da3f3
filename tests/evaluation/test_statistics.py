import itertools

import numpy as np
import pytest
from scipy import stats

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.statistics import Interval, bootstrap_interval, holm, paired_test


def test_the_interval_is_scipy_s_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, 40)
    ours = bootstrap_interval(values.tolist(), resamples=4000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1)
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.003)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.003)
    assert bootstrap_interval(values.tolist(), resamples=100) == bootstrap_interval(
        values.tolist(), resamples=100
    )


def test_a_patient_counts_once() -> None:
    doubled = bootstrap_interval([0.2, 0.4, 0.9, None], ["p", "p", "q", "r"], resamples=2000)
    assert doubled[0] == pytest.approx((0.3 + 0.9) / 2)
    assert doubled.patients == 2
    assert doubled[1:3] == (pytest.approx(0.3), pytest.approx(0.9))  # 1/4 of the draws are both extremes


def test_too_few_patients_have_no_interval() -> None:
    assert bootstrap_interval([None]) == Interval(None, None, None, 0)
    assert bootstrap_interval([0.5, 0.7], ["p", "p"]) == Interval(pytest.approx(0.6), None, None, 1)
    with pytest.raises(LifelongCTError):
        bootstrap_interval([0.5], ["p", "q"])


def test_the_permutation_test_counts_signs() -> None:
    differences = np.array([0.3, 0.1, -0.05, 0.2, 0.15])
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=5)]
    two_sided = 2 * min(np.mean(np.array(means) >= differences.mean() - 1e-12), 0.5)
    assert paired_test(differences.tolist(), [0.0] * 5) == pytest.approx(two_sided)


def test_many_signs_are_drawn() -> None:
    """Of 24 pairs 2^24 signs: the drawn p is near the normal one, √Σd² the deviation of the sum."""
    differences = np.random.default_rng(0).normal(0.02, 0.05, 24)
    expected = 2 * stats.norm.sf(differences.sum() / np.sqrt((differences**2).sum()))
    found = [paired_test(differences.tolist(), [0.0] * 24, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] == pytest.approx(expected, abs=0.015)
    assert found[2] == pytest.approx(expected, abs=0.015)


def test_no_difference_and_one_pair() -> None:
    assert paired_test([0.5, 0.5], [0.5, 0.5]) == 1.0
    assert paired_test([0.5], [0.1]) == 1.0
    for wrong in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(LifelongCTError):
            paired_test(*wrong)


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.2 times 4, 3, 2, 1, never below the one before
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
