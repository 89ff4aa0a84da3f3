"""How often each case comes, against counts and binomial bounds."""

import itertools
from collections import Counter

import numpy as np
import pytest
from drawn import sigmas
from scipy.stats import chi2

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.sampling import Epochs, OnePass, WithReplacement, make_schedule

KEYS = (0, "patches")


def counted(schedule, cases, draws, keys=KEYS):
    counts = np.bincount([schedule.rank(n, cases, keys) for n in range(draws)], minlength=cases)
    assert len(counts) == cases
    return counts


def test_orders_of_epochs_are_uniform():
    made = Epochs()
    ranks = [made.rank(n, 3, KEYS) for n in range(3 * 1200)]
    counts = Counter(tuple(ranks[i : i + 3]) for i in range(0, len(ranks), 3))
    assert len(counts) == 6
    assert all(sigmas(count, 1200, 1 / 6) < 4 for count in counts.values())


@pytest.mark.parametrize(("cases", "k"), [(1, 5), (7, 4), (50, 3)])
def test_after_n_k_draws_epochs_and_one_pass_have_drawn_each_case_k_times(cases, k):
    assert (counted(Epochs(), cases, cases * k) == k).all()
    assert (counted(OnePass(k), cases, cases * k) == k).all()
    assert OnePass(k).patches(cases) == cases * k
    assert Epochs().patches(cases) is None


@pytest.mark.parametrize("seed", range(5))
def test_with_replacement_every_case_is_within_its_binomial_bounds(seed):
    """Two-sided: counts that are too equal are as wrong as counts that are too different."""
    cases, k = 60, 40
    counts = counted(WithReplacement(), cases, cases * k, (seed, "patches"))
    statistic = ((counts - k) ** 2 / k).sum()
    low, high = chi2.ppf([0.0005, 0.9995], cases - 1)
    assert low < statistic < high
    assert all(sigmas(count, cases * k, 1 / cases) < 4.5 for count in counts)
    assert WithReplacement().patches(cases) is None


def test_with_replacement_the_next_case_does_not_depend_on_the_last():
    ranks = [WithReplacement().rank(n, 4, KEYS) for n in range(4001)]
    pairs = Counter(itertools.pairwise(ranks))
    expected = 4000 / 16
    statistic = sum((pairs[i, j] - expected) ** 2 / expected for i in range(4) for j in range(4))
    assert statistic < chi2.ppf(0.999, 15)


def test_one_pass_shows_case_after_case_in_a_keyed_order():
    made = OnePass(4)
    orders = {seed: [made.rank(n, 9, (seed,)) for n in range(36)] for seed in range(8)}
    for ranks in orders.values():
        assert [ranks[i : i + 4] for i in range(0, 36, 4)] == [[r] * 4 for r in ranks[::4]]
    assert len({tuple(ranks) for ranks in orders.values()}) == 8
    assert made.finished(0, 9, 9, (0,)) == orders[0][:8:4]
    assert made.finished(3, 5, 9, (0,)) == orders[0][:1]
    assert made.finished(0, 36, 9, (0,)) == orders[0][::4]


def test_a_schedule_by_its_name():
    assert isinstance(make_schedule("epochs", 1), Epochs)
    assert isinstance(make_schedule("with_replacement", 1), WithReplacement)
    made = make_schedule("one_pass", 3)
    assert isinstance(made, OnePass)
    assert made.k == 3


@pytest.mark.parametrize(
    ("name", "k", "where"), [("twice", 1, "data.schedule"), ("one_pass", 0, "data.patches_per_case")]
)
def test_a_schedule_that_makes_no_sense_names_its_key(name, k, where):
    with pytest.raises(LifelongCTError) as error:
        make_schedule(name, k)
    assert error.value.where == where
