"""The stability gap by hand: two steps are scored within each of three experiences."""

import pytest

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.stability import largest_fall, stability

# Dice on a, b, c at the ends of the experiences 1 … 3, and within them at the steps 10 and 20
ENDS = {1: (0.8, 0.1, 0.1), 2: (0.6, 0.9, 0.1), 3: (0.7, 0.5, 0.8)}
WITHIN = {
    (1, 10): (0.4, None, None),
    (1, 20): (0.9, None, None),
    (2, 10): (0.2, 0.3, None),
    (2, 20): (0.5, 0.7, None),
    (3, 10): (0.3, 0.4, 0.2),
    (3, 20): (0.75, 0.6, 0.5),
}
TASKS = ["a", "b", "c"]


def row(after, hospital, value, step=None, case="1"):
    return EvaluationRow(after, hospital, f"{hospital}{case}", "liver", "dice", value, step=step)


def matrix(upto=3):
    ends = [
        row(i, h, v) for i, values in ENDS.items() if i <= upto for h, v in zip("abc", values, strict=True)
    ]
    within = [
        row(i, h, v, step)
        for (i, step), values in WITHIN.items()
        if i <= upto
        for h, v in zip("abc", values, strict=True)
        if v is not None
    ]
    return ResultMatrix([*reversed(within), *ends])


def test_the_lowest_and_the_largest_fall_since_each_was_learnt():
    """a since the end of 1: .8 | .2 .5 .6 | .3 .75 .7; b since the end of 2: .9 | .4 .6 .5. c was learnt last."""
    found = stability(matrix(), TASKS)
    assert found["min_acc"] == pytest.approx((0.2 + 0.4) / 2)
    assert found["wc_acc"] == pytest.approx(0.8 / 3 + (1 - 1 / 3) * 0.3)
    assert found["worst_forgetting"] == pytest.approx(((0.8 - 0.2) + (0.9 - 0.4)) / 2)


def test_a_run_that_was_stopped():
    found = stability(matrix(2), TASKS)
    assert found["min_acc"] == pytest.approx(0.2)
    assert found["wc_acc"] == pytest.approx(0.9 / 2 + 0.2 / 2)
    assert stability(matrix(1), TASKS) == {"min_acc": None, "wc_acc": 0.8, "worst_forgetting": None}
    assert stability(ResultMatrix(), TASKS) == {"min_acc": None, "wc_acc": None, "worst_forgetting": None}


def test_joint_training_has_learnt_nothing_before_its_end():
    """The last row alone, and scores within: what is low there was not learnt yet."""
    joint = ResultMatrix([row(3, h, v, step) for step, v in ((10, 0.1), (None, 0.8)) for h in "abc"])
    assert stability(joint, TASKS) == {"min_acc": None, "wc_acc": None, "worst_forgetting": None}


@pytest.mark.parametrize(
    ("line", "fall"), [([0.5, 0.9, 0.4, 0.6], 0.5), ([0.9, 0.5, 0.8, 0.2], 0.7), ([0.1, 0.2, 0.4], -0.1)]
)
def test_the_largest_fall_is_that_of_brute_force(line, fall):
    pairs = [line[m] - line[n] for n in range(len(line)) for m in range(n)]
    assert largest_fall(line) == pytest.approx(max(pairs)) == pytest.approx(fall)


def test_only_the_cases_that_every_evaluation_has():
    """A second case of a is scored at the end alone: it changes no minimum."""
    more = matrix()
    more.append([row(3, "a", 0.0, case="2")])
    assert stability(more, TASKS) == stability(matrix(), TASKS)


def test_a_case_that_is_undefined_for_a_moment_makes_no_gap():
    """Its organ is absent: 0 while it is predicted, undefined within experience 3, where it is not."""
    more = matrix()
    more.append(row(i, "a", 0.0, case="2") for i in ENDS)
    more.append(row(i, "a", None if i == 3 else 0.0, step, case="2") for i, step in WITHIN)
    assert stability(more, TASKS) == stability(matrix(), TASKS)


def test_rows_within_leave_the_matrix_alone_and_come_back(tmp_path):
    whole, ends = matrix(), ResultMatrix(r for r in matrix().rows())
    assert whole.rows() == ends.rows()
    assert whole.to_scores() == ends.to_scores()
    assert whole.summary(TASKS) == ends.summary(TASKS)
    assert list(whole.within) == sorted(WITHIN), "in the order of time"
    whole.write_cases_csv(tmp_path / "cases.csv")
    lines = (tmp_path / "cases.csv").read_text().splitlines()
    assert lines[0] == "after,step,hospital,case,organ,dice"
    assert "2,10,a,a1,liver,0.2" in lines
    assert "2,,b,b1,liver,0.9" in lines
    copy = ResultMatrix()
    copy.load_state_dict(whole.state_dict())
    for back in (ResultMatrix.read_cases_csv(tmp_path / "cases.csv"), copy):
        assert back.rows() == whole.rows()
        assert stability(back, TASKS) == stability(whole, TASKS)
        assert back.within[3, 20].value(3, "b") == 0.6
