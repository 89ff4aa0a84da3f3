"""Plasticity and intransigence on a 3 × 3 matrix, by hand."""

import numpy as np
import pytest
from test_axes import R, rows

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.reference import intransigence, pair, plasticity, plasticity_ratio
from lifelong_ct.evaluation.tasks import Task

TASKS = [Task(("a",)), Task(("b",)), Task(("c",))]
ALONE = np.diag([0.8, 0.8, 1.0])
"""Dice of a model per hospital, at the row of its experience; the rest does not matter."""


def reference(diagonal, cases=("1",)):
    table = np.vstack([np.zeros(3), diagonal])
    return ResultMatrix(rows(table, "abc", cases))


def pairs(matrix, other):
    return [pair(matrix, TASKS, i, other, i) for i in (2, 3)]


def test_by_hand():
    """R[2, b] = .9 and R[3, c] = .8, beside .8 and 1."""
    found = pairs(ResultMatrix(rows()), reference(ALONE))
    assert found == [(0.9, 0.8), (0.8, 1.0)]
    assert plasticity(found) == pytest.approx((0.1 - 0.2) / 2)
    assert plasticity_ratio(found) == pytest.approx((0.9 / 0.8 + 0.8) / 2)
    assert intransigence(found) == pytest.approx((-0.1 + 0.2) / 2)


def test_only_cases_that_both_have_scored():
    matrix = ResultMatrix(rows())
    matrix.append([EvaluationRow(3, "c", "c2", "liver", "dice", 0.0)])
    assert pairs(matrix, reference(ALONE)) == [(0.9, 0.8), (0.8, 1.0)]
    assert pairs(matrix, reference(ALONE, cases=("9",))) == [None, None]


def test_a_case_that_is_undefined_in_one_of_both_is_no_loss():
    """c2's liver is absent: the run predicts it (0), the reference does not (undefined). Likewise an organ."""
    matrix, other = ResultMatrix(rows()), reference(ALONE)
    matrix.append(EvaluationRow(3, "c", "c2", organ, "dice", 0.0) for organ in ("liver", "spleen"))
    other.append([EvaluationRow(3, "c", "c2", "liver", "dice", None)])
    assert pairs(matrix, other) == [(0.9, 0.8), (0.8, 1.0)]


def test_only_organs_that_were_annotated_so_far():
    tasks = [Task(("a",), ("liver",)), Task(("a",), ("spleen",))]
    scores = [("liver", 0.9), ("spleen", 0.4)]
    mine = ResultMatrix(EvaluationRow(2, "a", "a1", organ, "dice", value) for organ, value in scores)
    assert pair(mine, tasks, 2, mine, 2) == (0.4, 0.4)
    assert pair(mine, tasks, 1, mine, 2) is None, "its first row is not there"


def test_nothing_to_compare_with():
    assert (plasticity([]), plasticity_ratio([(0.5, 0.0)]), intransigence([])) == (None, None, None)
    assert R.shape == (4, 4)
