import numpy as np
import pytest

from lifelong_ct.evaluation.transfer import (
    accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
    mean_defined,
    retained,
    summarise,
)

NAN = float("nan")
# three hospitals in the order of the columns, and one that is never trained on
R = np.array(
    [
        [0.1, 0.2, 0.1, 0.0],
        [0.8, 0.3, 0.2, 0.3],
        [0.6, 0.9, 0.4, 0.4],
        [0.5, 0.7, 0.8, 0.5],
    ]
)
COLUMNS = [0, 1, 2]


def test_the_measures_by_hand() -> None:
    assert accuracy(R, COLUMNS) == pytest.approx((0.5 + 0.7 + 0.8) / 3)
    assert backward_transfer(R, COLUMNS) == pytest.approx(((0.5 - 0.8) + (0.7 - 0.9)) / 2)
    assert forward_transfer(R, COLUMNS) == pytest.approx(((0.3 - 0.2) + (0.4 - 0.1)) / 2)
    assert forgetting(R, COLUMNS) == pytest.approx(((0.8 - 0.5) + (0.9 - 0.7)) / 2)
    assert retained(R, COLUMNS) == pytest.approx((0.5 / 0.8 + 0.7 / 0.9) / 2)
    summary = summarise(R, COLUMNS)
    assert summary["final_mean"] == pytest.approx((0.5 + 0.7 + 0.8 + 0.5) / 4)
    assert summary["diagonal_mean"] == pytest.approx((0.8 + 0.9 + 0.8) / 3)


def test_forgetting_counts_from_the_best_earlier_row_not_from_the_diagonal() -> None:
    later = R.copy()
    later[2, 0] = 0.95  # hospital 1 gained from hospital 2
    assert forgetting(later, COLUMNS) == pytest.approx(((0.95 - 0.5) + (0.9 - 0.7)) / 2)
    assert backward_transfer(later, COLUMNS) == backward_transfer(R, COLUMNS)


def test_of_what_was_never_learnt_nothing_can_be_retained() -> None:
    never = R.copy()
    never[1, 0] = 0.0
    assert retained(never, COLUMNS) == pytest.approx(0.7 / 0.9)
    assert retained(never[:2], COLUMNS) is None


def test_another_order_of_training_than_of_columns() -> None:
    order = [2, 0, 1]
    assert backward_transfer(R, order) == pytest.approx(((0.8 - 0.2) + (0.5 - 0.6)) / 2)
    assert forward_transfer(R, order) == pytest.approx(((0.8 - 0.1) + (0.9 - 0.2)) / 2)


def test_a_hospital_without_test_cases_is_left_out() -> None:
    columns = [0, None, 2]
    assert accuracy(R, columns) == pytest.approx((0.5 + 0.8) / 2)
    assert backward_transfer(R, columns) == pytest.approx(0.5 - 0.8)
    assert forward_transfer(R, columns) == pytest.approx(0.4 - 0.1)
    assert forgetting(R, columns) == pytest.approx(0.8 - 0.5)


def test_missing_scores_leave_their_terms_out() -> None:
    holes = R.copy()
    holes[1, 0] = holes[0, 1] = NAN
    assert backward_transfer(holes, COLUMNS) == pytest.approx(0.7 - 0.9)
    assert forward_transfer(holes, COLUMNS) == pytest.approx(0.4 - 0.1)
    assert forgetting(holes, COLUMNS) == pytest.approx(((0.6 - 0.5) + (0.9 - 0.7)) / 2)


def test_joint_training_has_the_last_row_only() -> None:
    joint = np.full((4, 3), NAN)
    joint[-1] = [0.7, 0.8, 0.9]
    summary = summarise(joint, COLUMNS)
    assert summary["acc"] == summary["final_mean"] == pytest.approx(0.8)
    assert [summary[k] for k in ("bwt", "fwt", "forgetting")] == [None, None, None]  # type: ignore[literal-required]


def test_one_hospital_has_nothing_to_transfer_to() -> None:
    summary = summarise(np.array([[0.1], [0.9]]), [0])
    assert (summary["acc"], summary["diagonal_mean"]) == (0.9, 0.9)
    assert (summary["bwt"], summary["fwt"], summary["forgetting"]) == (None, None, None)


def test_a_stopped_run_is_summarised_up_to_where_it_is() -> None:
    summary = summarise(R[:2], COLUMNS)
    assert summary["diagonal_mean"] == 0.8
    assert summary["bwt"] is None


def test_mean_of_nothing_is_undefined() -> None:
    assert mean_defined([NAN, NAN]) is None
    assert mean_defined([]) is None
    assert mean_defined([1.0, NAN, 3.0]) == 2.0
