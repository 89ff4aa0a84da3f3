import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.acceptance import judge
from lifelong_ct.evaluation.acceptance_rules import read_rules
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.noninferiority import non_inferiority, unseen_failures

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
MARGIN = 0.05


def by_beta(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Two models that fail apart: Dice of Beta(27, 3), mean 0.9, and Beta(17, 3), mean 0.85."""
    return rng.beta(17, 3, size) - rng.beta(27, 3, size)


def by_factor(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """The new one keeps a share of the old one's Beta(9, 1), on average all but 0.05: most lose nothing, few much."""
    kept = 1 - MARGIN / 0.9
    return rng.beta(9, 1, size) * (rng.beta(8 * kept, 8 * (1 - kept), size) - 1)


AT_THE_MARGIN: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(-MARGIN, 0.04, size),
    "exponential losses": lambda rng, size: -rng.gamma(1, 0.05, size),
    "exponential gains": lambda rng, size: -2 * MARGIN + rng.gamma(1, 0.05, size),
    "two beta": by_beta,
    "beta times beta": by_factor,
}
"""Gains whose true mean is −MARGIN: to accept them is an error. Skewness 0, −2, 2, −0.4, −2.7."""


@pytest.mark.parametrize("name", AT_THE_MARGIN)
@pytest.mark.parametrize("n", [10, 20, 50])
def test_a_model_that_is_worse_by_the_margin_is_accepted_in_at_most_5_percent(name: str, n: int) -> None:
    gains = AT_THE_MARGIN[name](np.random.default_rng(n), (4000, n))
    errors = np.mean([non_inferiority(x, MARGIN).p <= 0.05 for x in gains])
    assert errors < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)


@pytest.mark.slow
@pytest.mark.parametrize("name", AT_THE_MARGIN)
@pytest.mark.parametrize("n", [10, 20, 50])
def test_over_many_more_samples(name: str, n: int) -> None:
    gains = AT_THE_MARGIN[name](np.random.default_rng(n + 1), (40_000, n))
    errors = np.mean([non_inferiority(x, MARGIN).p <= 0.05 for x in gains])
    assert errors < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 40_000)


def test_the_shipped_minimum_is_enough_where_a_fifth_of_the_patients_lose_much() -> None:
    """They lose 0.1 to 0.4, which is 0.05 on average over all. Half as many patients are not enough."""

    def errors(n: int) -> float:
        rng = np.random.default_rng(n)
        gains = -rng.uniform(0.1, 0.4, (3000, n)) * (rng.random((3000, n)) < 0.2) + rng.normal(
            0, 0.01, (3000, n)
        )
        return float(np.mean([non_inferiority(x, MARGIN).p <= 0.05 for x in gains]))

    minimum = read_rules().minimum_patients
    assert errors(minimum) < 0.05 < 0.08 < errors(minimum // 2)


@pytest.mark.parametrize("n", [20, 59])
def test_failures_too_rare_for_the_sample_are_accepted(n: int) -> None:
    """5 % of the patients lose all of a Dice of 0.9: nobody of them is in 0.95^n of the samples."""
    rng, share = np.random.default_rng(n), 0.95**n
    gains = np.where(rng.random((3000, n)) < 0.05, -0.9 - 0.005, -0.005) + rng.normal(0, 0.001, (3000, n))
    errors = np.mean([non_inferiority(x, MARGIN).p <= 0.05 for x in gains])
    assert errors == pytest.approx(share, abs=3 * math.sqrt(share * (1 - share) / 3000))
    assert (errors < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 3000)) == (n == 59)


def test_student_s_t_alone_would_not_hold() -> None:
    """What the correction is for."""
    gains = AT_THE_MARGIN["exponential losses"](np.random.default_rng(0), (2000, 10))
    assert np.mean([non_inferiority(x, MARGIN).p_t <= 0.05 for x in gains]) > 0.1


@pytest.mark.parametrize("name", AT_THE_MARGIN)
def test_the_whole_gate_errs_in_at_most_5_percent(name: str) -> None:
    """Three organs at two hospitals; one of the six loses exactly the margin of the shipped rules, 0.02."""
    rules, rng, n, trials = read_rules(), np.random.default_rng(3), 20, 150
    cells = [(h, o) for h in "ab" for o in ("liver", "spleen", "colon")]
    accepted = 0
    for gains in AT_THE_MARGIN[name](rng, (trials, n)) * 0.02 / MARGIN:
        old = rng.beta(27, 3, (6, n)) * 0.5 + 0.4
        new = old + rng.normal(0, 0.005, (6, n))
        new[4] = old[4] + gains
        pair = [
            ResultMatrix(
                EvaluationRow(1, h, str(i), o, "dice", float(v))
                for (h, o), each in zip(cells, scores, strict=True)
                for i, v in enumerate(each)
            )
            for scores in (old, new)
        ]
        found = judge(*pair, rules)
        accepted += found.decision == "accepted"
        assert all(cell.decision == "accepted" for k, cell in enumerate(found.cells) if k != 4)
    assert accepted / trials < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_a_model_as_good_is_mostly_accepted() -> None:
    """Power: twenty patients, a margin of the size of the standard deviation."""
    gains = np.random.default_rng(0).normal(0, MARGIN, (500, 20))
    assert np.mean([non_inferiority(x, MARGIN).p <= 0.05 for x in gains]) > 0.97


def test_without_skewness_it_is_student_s_t() -> None:
    gains = np.array([-0.03, -0.02, 0.0, 0.02, 0.03])
    found = non_inferiority(gains, 0.05)
    expected = stats.ttest_1samp(gains, -0.05, alternative="greater").pvalue
    assert found.p == pytest.approx(expected)
    assert found.p_t == pytest.approx(expected)
    skewed = np.random.default_rng(0).gamma(1, 0.1, 12)
    assert non_inferiority(skewed, 0.1).skewness == pytest.approx(stats.skew(skewed, bias=False))
    s = math.sqrt((2 * 0.0009 + 2 * 0.0004) / 4)
    assert found.bound == pytest.approx(0 - 2.131847 * s / math.sqrt(5))  # t of 4 degrees


def test_hall_s_correction_by_hand() -> None:
    """Gains 0 0 0 −0.4, margin 0.3: mean −0.1, s 0.2, U = 1; skewness −2 (unbiased), times 1 + 10/4 is −7.
    h = 1 − 7/3 + 49/27 − 7/24 = 41/216, times √4."""
    found = non_inferiority([0.0, 0.0, 0.0, -0.4], 0.3)
    assert found.skewness == pytest.approx(-2)
    assert found.p_t == pytest.approx(stats.t.sf(2, 3))
    assert found.p == pytest.approx(stats.t.sf(2 * 41 / 216, 3))


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_is_where_the_test_turns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gains = rng.choice([-1, 1]) * rng.gamma(0.5, 0.05, 12) + rng.normal(0, 0.01, 12)
    bound = non_inferiority(gains, 0.0, 0.05).bound
    shift = gains - bound  # now the bound is 0: any margin is enough
    assert non_inferiority(shift, 0.001).p < 0.05
    assert non_inferiority(shift - 0.002, 0.001).p > 0.05


def test_a_better_model_never_looks_worse() -> None:
    """Johnson's test, without the cubic term, refuses what is much better and skewed."""
    gains = np.array([0.0] * 9 + [-0.3])
    p = [non_inferiority(gains + more, 0.05).p for more in np.linspace(-0.1, 2, 200)]
    assert all(a >= b for a, b in itertools.pairwise(p))
    assert p[-1] < 1e-6


def test_equal_gains() -> None:
    assert non_inferiority([0.0, 0.0], 0.05).p == 0.0
    assert non_inferiority([-0.05] * 5, 0.05).p == 1.0
    assert non_inferiority([0.85 - 0.9] * 5, 0.05).p == 1.0
    assert non_inferiority([-0.2] * 5, 0.05)[:2] == (1.0, pytest.approx(-0.2))
    assert non_inferiority([0.1, 0.2], 0.0).skewness == 0.0


@pytest.mark.parametrize(
    ("gains", "margin"), [([0.1], 0.1), ([], 0.1), ([0.1, math.nan], 0.1), ([0.1, 0.2], -1)]
)
def test_what_cannot_be_tested(gains: list[float], margin: float) -> None:
    with pytest.raises(LifelongCTError, match="non-inferiority"):
        non_inferiority(gains, margin)


def test_unseen_failures() -> None:
    assert unseen_failures(59) == pytest.approx(0.0495, abs=1e-3)
    assert (1 - unseen_failures(10)) ** 10 == pytest.approx(0.05)
    assert unseen_failures(0) == 1.0
