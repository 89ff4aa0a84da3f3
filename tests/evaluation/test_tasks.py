"""Measures where classes arrive one after another: what nobody has taught yet distorts nothing."""

import pytest

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.tasks import Task, seen_after

# one hospital that is trained on, one that is not; liver and spleen are new in step 1, aorta in 2, pancreas in 3
SCORES = {
    "a": {
        "liver": [0.0, 0.8, 0.7, 0.6],
        "spleen": [0.0, 0.6, 0.5, 0.2],
        "aorta": [0.0, 0.0, 0.9, 0.5],
        "pancreas": [0.0, 0.0, 0.0, 0.4],
    },
    "u": {
        "liver": [0.0, 0.4, 0.3, 0.2],
        "spleen": [0.0, 0.2, 0.1, 0.0],
        "aorta": [0.0, 0.0, 0.3, 0.2],
        "pancreas": [0.0, 0.0, 0.0, 0.2],
    },
}
STEPS = [Task(("a",), ("liver", "spleen")), Task(("a",), ("aorta",)), Task(("a",), ("pancreas",))]


def matrix(upto=3):
    return ResultMatrix(
        EvaluationRow(after, hospital, "case", organ, "dice", values[after])
        for hospital, organs in SCORES.items()
        for organ, values in organs.items()
        for after in range(upto + 1)
    )


def test_class_incremental_by_hand():
    summary = matrix().summary(STEPS)
    assert summary["acc"] == pytest.approx(((0.6 + 0.2) / 2 + 0.5 + 0.4) / 3)
    assert summary["bwt"] == pytest.approx(((0.4 - 0.7) + (0.5 - 0.9)) / 2)
    assert summary["forgetting"] == pytest.approx(((0.7 - 0.4) + (0.9 - 0.5)) / 2)
    assert summary["diagonal_mean"] == pytest.approx((0.7 + 0.9 + 0.4) / 3)
    assert summary["fwt"] is None, "no organ was known before its step"
    assert summary["final_mean"] == pytest.approx(
        ((0.6 + 0.2 + 0.5 + 0.4) / 4 + (0.2 + 0 + 0.2 + 0.2) / 4) / 2
    )


def test_one_organ_by_hand():
    liver = matrix().summary(STEPS, organ="liver")
    assert liver["acc"] == pytest.approx(0.6)
    assert liver["bwt"] == pytest.approx(0.6 - 0.8)
    assert liver["diagonal_mean"] == 0.8
    assert liver["retained"] == pytest.approx(0.6 / 0.8)
    assert liver["final_mean"] == pytest.approx((0.6 + 0.2) / 2)
    pancreas = matrix().summary(STEPS, organ="pancreas")
    assert (pancreas["acc"], pancreas["bwt"], pancreas["retained"]) == (0.4, None, None)


def test_one_organ_of_whole_hospitals_is_that_column_alone():
    liver = matrix().summary(["a", "u"], organ="liver")
    assert liver["acc"] == pytest.approx((0.6 + 0.2) / 2)
    assert liver["bwt"] == pytest.approx(((0.6 - 0.8) + (0.2 - 0.3)) / 2)  # u came second
    assert liver["fwt"] == pytest.approx(0.4)
    spleen_at_u = matrix().summary([Task(("a",), ("liver",)), Task(("u",))], organ="spleen")
    assert spleen_at_u["acc"] == 0.0  # 0.0 at u; the first task is not about it


def test_the_scores_themselves_stay_in_the_matrix():
    made = matrix()
    assert made.value(1, "a", "aorta") == 0.0
    assert made.value(1, "a") == pytest.approx((0.8 + 0.6) / 4)
    assert made.task_value(1, STEPS[1]) == 0.0
    assert made.task_value(1, STEPS[1], seen_after(STEPS, 1)) is None


def test_a_run_that_stopped_is_measured_over_what_was_taught():
    summary = matrix(upto=2).summary(STEPS)
    assert summary["acc"] == pytest.approx(((0.7 + 0.5) / 2 + 0.9) / 2)
    assert summary["bwt"] == pytest.approx(0.6 - 0.7)
    assert summary["diagonal_mean"] == pytest.approx((0.7 + 0.9) / 2)
    assert summary["final_mean"] == pytest.approx(((0.7 + 0.5 + 0.9) / 3 + (0.3 + 0.1 + 0.3) / 3) / 2)


def test_an_organ_that_is_taught_again_elsewhere_has_a_forward_transfer_of_its_own():
    """Protocols overlap: step 2 is liver and aorta at u. Before it only the liver could be known there."""
    tasks = [Task(("a",), ("liver", "spleen")), Task(("u",), ("liver", "aorta"))]
    summary = matrix(upto=2).summary(tasks)
    assert summary["fwt"] == pytest.approx(0.4 - 0.0)
    assert summary["acc"] == pytest.approx(((0.7 + 0.5) / 2 + (0.3 + 0.3) / 2) / 2)


def test_a_task_at_several_hospitals_is_their_mean():
    task = Task(("a", "u", "without test cases"), ("liver",))
    assert matrix().task_value(1, task) == pytest.approx((0.8 + 0.4) / 2)
    assert matrix().task_value(1, Task(("without test cases",), ("liver",))) is None


def test_a_name_stands_for_a_hospital_with_all_its_organs():
    made = matrix()
    assert made.summary(["a", "u"]) == made.summary([Task(("a",)), Task(("u",))])
    assert made.summary(["a", "u"])["fwt"] == pytest.approx((0.4 + 0.2) / 4)
