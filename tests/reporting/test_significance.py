from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.statistics import holm, paired_test
from lifelong_ct.reporting.contenders import Contender
from lifelong_ct.reporting.run_folder import Run
from lifelong_ct.reporting.significance import Verdicts, judge

HOSPITALS = ("a", "b")


def run(
    score: Callable[[str, int], float | None],
    seed: int = 0,
    patients: int = 10,
    kinds: Callable[[int], str] = lambda _: "",
    told: tuple[str, ...] = ("expert",),
) -> Run:
    """`score(hospital, patient)`, one organ, after the second experience."""
    rows = [
        EvaluationRow(2, h, f"{h}{i}", "liver", "dice", score(h, i), f"{h}-p{i}", kinds(i))
        for h in HOSPITALS
        for i in range(patients)
    ]
    results = {"run": {"seed": seed, "label_kinds": list(told)}, "hospitals": list(HOSPITALS)}
    return Run(Path(f"r{seed}"), results, ResultMatrix(rows))


def spread(mean: float, seed: int, sd: float = 0.02) -> Callable[[str, int], float]:
    rng = np.random.default_rng(seed)
    table = {(h, i): mean + rng.normal(0, sd) for h in HOSPITALS for i in range(50)}
    return lambda h, i: table[h, i]


def sweep(*means: float, seeds: int = 3, patients: int = 10, by_seed: float = 0.0) -> Verdicts:
    """Strategies s0 (the baseline), s1, …; seed k adds (k − 1) `by_seed` to s1 alone."""
    return judge(
        [
            Contender(
                f"s{j}",
                tuple(
                    run(spread(mean + (k - 1) * by_seed * (j == 1), 10 * j + k), k, patients)
                    for k in range(seeds)
                ),
                baseline=j == 0,
            )
            for j, mean in enumerate(means)
        ],
        resamples=1000,
    )


def test_a_difference_that_is_there_is_marked_from_both_sides() -> None:
    found = sweep(0.6, 0.8, 0.805)
    best = found.rows["s2"]
    assert best.best is None
    assert (best.baseline.other, best.baseline.mark) == ("s0", "better")
    assert best.baseline.difference == pytest.approx(0.2, abs=0.02)
    naive = found.rows["s0"]
    assert (naive.baseline, naive.best.other, naive.best.mark) == (None, "s2", "worse")
    assert naive.best.difference == -best.baseline.difference
    assert (naive.best.low, naive.best.high) == (-best.baseline.high, -best.baseline.low)
    assert (naive.best.patients, naive.best.seeds) == (20, 3)


def test_a_difference_that_may_be_chance_is_not() -> None:
    found = sweep(0.6, 0.8, 0.805)
    assert (found.rows["s1"].best.mark, found.rows["s1"].baseline.mark) == ("not shown", "better")
    assert found.rows["s1"].rank.first > 0
    assert found.rows["s0"].rank.mean == 3
    assert found.agreement > 0.5


def test_the_test_is_of_signs_over_patients_with_holm_over_all_pairs() -> None:
    """Two hospitals of ten: each patient adds 1/20 of their difference to ACC's; three pairs."""
    means = (0.7, 0.705, 0.712)
    scores = [spread(mean, j) for j, mean in enumerate(means)]
    cases = [(h, i) for h in HOSPITALS for i in range(10)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    raw = [paired_test([scores[a](*c) for c in cases], [scores[b](*c) for c in cases]) for a, b in pairs]
    found = judge([Contender(f"s{j}", (run(scores[j]),), baseline=j == 0) for j in range(3)], resamples=100)
    p = dict(zip(pairs, holm(raw), strict=True))
    best = max(range(3), key=lambda j: found.rows[f"s{j}"].interval.mean)
    for j in range(3):
        if j != best:
            assert found.rows[f"s{j}"].best.p == pytest.approx(p[min(j, best), max(j, best)], abs=0.02)


def test_seeds_that_disagree_take_the_mark_away() -> None:
    sure, unsure = sweep(0.70, 0.72, by_seed=0.0), sweep(0.70, 0.72, by_seed=0.15)
    assert sure.rows["s1"].baseline.mark == "better"
    assert unsure.rows["s1"].baseline.mark == "not shown"
    width = [v.rows["s1"].interval.high - v.rows["s1"].interval.low for v in (sure, unsure)]
    assert width[1] > 5 * width[0]


def test_few_patients_and_seeds_are_told() -> None:
    found = sweep(0.6, 0.8, patients=2)
    judged = found.rows["s1"]
    assert (judged.note, judged.baseline.mark, judged.baseline.p) == (
        "4 patients: no interval",
        "too few",
        None,
    )
    assert (judged.interval.low, judged.rank, found.tau) == (None, None, None)
    found = sweep(0.6, 0.8, seeds=1)
    assert found.rows["s1"].note == "1 seed: the interval says nothing about other seeds"
    assert found.rows["s1"].baseline.mark == "better"
    assert found.agreement is None


def test_difference_and_test_are_over_the_same_scores() -> None:
    """Odd patients' organ is absent: x predicts it (0), y does not (undefined). Of even ones x has 0.1 more."""
    x = Contender("x", (run(lambda h, i: 0.8 if i % 2 == 0 else 0.0, patients=12),))
    y = Contender("y", (run(lambda h, i: 0.7 if i % 2 == 0 else None, patients=12),))
    found = judge([x, y], resamples=50).rows
    assert (found["x"].interval.mean, found["y"].interval.mean) == (pytest.approx(0.4), pytest.approx(0.7))
    versus = found["x"].best
    assert (versus.other, versus.difference, versus.patients) == ("y", pytest.approx(0.1), 12)
    assert (versus.mark, versus.p) == ("better", pytest.approx(2 / 2**12))


def test_seeds_are_paired() -> None:
    rows = [Contender("x", (run(spread(0.5, 1), 0),)), Contender("y", (run(spread(0.6, 2), 1),))]
    versus = judge(rows, resamples=50).rows["x"].best
    assert (versus.other, versus.difference, versus.seeds, versus.mark) == ("y", None, 0, "too few")


def test_an_upper_bound_is_neither_best_nor_tested() -> None:
    rows = [
        Contender("joint", (run(spread(0.9, 1)),), rival=False),
        Contender("x", (run(spread(0.7, 2)),)),
        Contender("y", (run(spread(0.5, 3)),)),
    ]
    found = judge(rows, resamples=100).rows
    assert (found["joint"].best, found["joint"].rank) == (None, None)
    assert found["joint"].interval.low is not None
    assert found["y"].best.other == "x"


def test_scores_per_kind_of_label() -> None:
    kinds = ("expert", "model")
    mixed = run(
        lambda h, i: 0.9 if i % 2 == 0 else 0.5, kinds=lambda i: kinds[i % 2], told=kinds, patients=12
    )
    found = judge([Contender("x", (mixed,))], resamples=200).rows["x"]
    assert found.interval.mean == pytest.approx(0.7)
    assert {kind: (s.mean, s.patients) for kind, s in found.strata.items()} == {
        "expert": (pytest.approx(0.9), 12),
        "model": (pytest.approx(0.5), 12),
    }
    few = run(lambda h, i: 0.5, kinds=lambda i: "model" if i else "expert", told=kinds)
    assert judge([Contender("x", (few,))], resamples=50).rows["x"].strata["expert"].low is None


def test_older_runs_say_one_kind_for_all_or_do_not_know() -> None:
    whole, unknown = run(lambda h, i: 0.5), run(lambda h, i: 0.5, told=("expert", "model"))
    kinds = [list(judge([Contender("x", (r,))], resamples=50).rows["x"].strata) for r in (whole, unknown)]
    assert kinds == [["expert"], ["unknown"]]


def test_runs_without_scores() -> None:
    empty = replace(run(lambda h, i: 0.5), matrix=ResultMatrix())
    found = judge([Contender("x", (empty,)), Contender("y", (run(lambda h, i: None),))], resamples=50)
    assert [found.rows[name].note for name in "xy"] == ["no score"] * 2
    assert found.rows["x"].best is None
    assert judge([]).rows == {}
