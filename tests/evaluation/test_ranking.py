import itertools

import numpy as np
import pytest
from scipy import stats

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.ranking import kendall_w, stability


def test_ranks_of_three_draws_by_hand() -> None:
    # orders: a b c | a b c, a c b, b a c: taus 1, 1/3, 1/3
    draws = np.array([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7], [0.9, 0.7, 0.8], [0.8, 0.9, 0.7]])
    found = stability(draws)
    assert found.tau == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    a, b, c = found.ranks
    assert (a.whole, b.whole, c.whole) == (1, 2, 3)
    assert (a.mean, b.mean, c.mean) == (pytest.approx(4 / 3), pytest.approx(2), pytest.approx(8 / 3))
    assert (a.first, b.first, c.first) == (pytest.approx(2 / 3), pytest.approx(1 / 3), 0)
    assert (a.low, a.high) == (1, pytest.approx(np.quantile([1, 1, 2], 0.975)))


def test_equal_strategies_share_the_first_place() -> None:
    found = stability(np.full((5, 2), 0.5))
    assert [(r.whole, r.mean, r.first) for r in found.ranks] == [(1.5, 1.5, 1.0)] * 2
    assert found.tau is None


def test_a_draw_without_a_score_is_left_out() -> None:
    found = stability(np.array([[0.9, 0.8], [0.9, 0.8], [np.nan, 0.8]]))
    assert [r.first for r in found.ranks] == [1.0, 0.0]
    for wrong in (np.array([[0.9]]), np.array([[np.nan, 0.1], [0.1, 0.2]]), np.array([[0.1, 0.2]])):
        with pytest.raises(LifelongCTError, match="ranking"):
            stability(wrong)


def test_kendall_w_by_hand() -> None:
    assert kendall_w([[3, 2, 1], [3, 2, 1]]) == pytest.approx(1.0)
    assert kendall_w([[3, 2, 1], [1, 2, 3]]) == pytest.approx(0.0)
    # three raters of three items, ranks 123 132 213: sums 4 6 8, S = 8; 12·8 / (9·24) = 4/9
    assert kendall_w([[3, 2, 1], [3, 1, 2], [2, 3, 1]]) == pytest.approx(4 / 9)
    assert kendall_w([[3, 2, 1]]) is None
    assert kendall_w([[1, 1], [1, 1]]) is None


def test_kendall_w_is_what_friedman_says() -> None:
    """Without ties, and with them: W = χ² / (m (K − 1)), χ² of Friedman's test."""
    rng = np.random.default_rng(0)
    for scores in (rng.random((4, 6)), rng.integers(4, size=(5, 6)).astype(float)):
        chi = stats.friedmanchisquare(*scores.T).statistic
        assert kendall_w(scores.tolist()) == pytest.approx(chi / (len(scores) * 5))


def test_kendall_w_is_the_mean_of_spearman_s() -> None:
    scores = np.random.default_rng(1).random((4, 5))
    rho = np.mean([stats.spearmanr(a, b).statistic for a, b in itertools.combinations(scores, 2)])
    assert kendall_w(scores.tolist()) == pytest.approx((rho * 3 + 1) / 4)


def test_tau_is_scipy_s_with_ties_too() -> None:
    draws = np.random.default_rng(2).integers(4, size=(30, 5)).astype(float)
    taus = [stats.kendalltau(draws[0], row).statistic for row in draws[1:]]
    assert stability(draws).tau == pytest.approx(np.nanmean(taus))
