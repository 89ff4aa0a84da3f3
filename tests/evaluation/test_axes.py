"""Every measure of continual learning on one 3 × 3 matrix, by hand; beside Avalanche where it has the measure."""

import numpy as np
import pytest
from avalanche.evaluation.metrics import BWT, Forgetting, ForwardTransfer

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.transfer import backward_transfer, forgetting, forward_transfer, generalisation

# rows: untrained, after a, after b, after c; columns: a, b, c and u, which is never trained on
R = np.array(
    [
        [0.10, 0.20, 0.10, 0.05],
        [0.80, 0.30, 0.20, 0.30],
        [0.60, 0.90, 0.40, 0.40],
        [0.50, 0.70, 0.80, 0.45],
    ]
)
TASKS = ["a", "b", "c"]


def rows(table=R, hospitals="abcu", cases=("1",)):
    return [
        EvaluationRow(after, hospital, f"{hospital}{case}", "liver", "dice", float(table[after, h]))
        for after in range(len(table))
        for h, hospital in enumerate(hospitals)
        for case in cases
    ]


def test_all_of_a_summary_by_hand():
    summary = ResultMatrix(rows()).summary(TASKS)
    by_hand = {
        "acc": (0.5 + 0.7 + 0.8) / 3,
        "bwt": ((0.5 - 0.8) + (0.7 - 0.9)) / 2,
        "fwt": ((0.3 - 0.2) + (0.4 - 0.1)) / 2,
        "forgetting": ((0.8 - 0.5) + (0.9 - 0.7)) / 2,
        "final_mean": (0.5 + 0.7 + 0.8 + 0.45) / 4,
        "diagonal_mean": (0.8 + 0.9 + 0.8) / 3,
        "retained": (0.5 / 0.8 + 0.7 / 0.9) / 2,
        "generalisation": (0.3 + 0.2 + 0.4) / 3,
        "unseen": 0.45,
    }
    assert summary == {name: pytest.approx(value) for name, value in by_hand.items()}


def test_generalisation_is_the_mean_above_the_diagonal_as_torch_takes_it():
    """Díaz-Rodríguez et al. 2018: Σ_{i<j} R_ij / (N (N − 1) / 2)."""
    rng = np.random.default_rng(0)
    for n in (2, 3, 7):
        scores = rng.random((n + 1, n))
        expected = np.triu(scores[1:], 1).sum() / (n * (n - 1) / 2)
        assert generalisation(scores, range(n)) == pytest.approx(expected)
    assert generalisation(R[:2], range(3)) == pytest.approx((0.3 + 0.2) / 2), "a stopped run: what there is"
    assert generalisation(np.array([[0.1], [0.9]]), [0]) is None


def test_transfer_equals_avalanche():
    """Its metrics keep one value per experience; fed as its plugins feed them. Its forgetting starts from the first
    score, ours from the best: here they are the same."""
    bwt, fwt, forgot = BWT(), ForwardTransfer(), Forgetting()
    for h in range(3):
        fwt.update(h, R[0, h], initial=True)
        for metric in (bwt, forgot):
            metric.update(h, R[h + 1, h], initial=True)
            if h < 2:
                metric.update(h, R[3, h])
        if h > 0:
            fwt.update(h, R[h, h])
    assert backward_transfer(R, range(3)) == pytest.approx(np.mean(list(bwt.result().values())))
    assert forgetting(R, range(3)) == pytest.approx(np.mean(list(forgot.result().values())))
    assert forward_transfer(R, range(3)) == pytest.approx(np.mean(list(fwt.result().values())))


def test_unseen_counts_hospitals_that_no_experience_is_of():
    matrix = ResultMatrix(rows())
    assert matrix.summary(["a", "b"])["unseen"] == pytest.approx((0.8 + 0.45) / 2)
    assert matrix.summary(["a", "b", "c", "u"])["unseen"] is None


def test_with_a_panel_differences_are_over_the_same_cases():
    """Of each hospital case 1 is scored throughout, case 2 only at the end, 0.3 higher than case 1."""
    panel = ResultMatrix(rows())
    last = R[3] + 0.3
    panel.append(
        EvaluationRow(3, h, f"{h}2", "liver", "dice", float(v)) for h, v in zip("abcu", last, strict=True)
    )
    whole, alone = panel.summary(TASKS), ResultMatrix(rows()).summary(TASKS)
    for name in ("bwt", "fwt", "forgetting", "retained", "generalisation"):
        assert whole[name] == pytest.approx(alone[name]), name
    assert whole["acc"] == pytest.approx(alone["acc"] + 0.15)
    assert whole["unseen"] == pytest.approx(0.45 + 0.15)
    assert whole["diagonal_mean"] == pytest.approx((0.8 + 0.9 + 0.95) / 3), "the last row has every case"


def absent(*values):
    """Two cases of a: a1 keeps its liver's 0.9, a2 has none and gets these values, row by row."""
    return ResultMatrix(
        EvaluationRow(after, "a", case, "liver", "dice", score)
        for after, value in enumerate(values)
        for case, score in (("a1", 0.9), ("a2", value))
    )


def test_a_prediction_that_goes_away_is_no_gain():
    """a2's Dice is 0 while its absent liver is predicted, and undefined when it no longer is: a1 alone can be compared."""
    summary = absent(0.0, 0.0, None).summary(["a", "none"])
    assert (summary["bwt"], summary["forgetting"], summary["retained"]) == (0.0, 0.0, 1.0)
    assert summary["acc"] == summary["final_mean"] == 0.9, "over what is defined in the last row"
    assert summary["diagonal_mean"] == pytest.approx(0.45)
    assert absent(None, 0.0, 0.0).summary(["none", "a", "none"])["fwt"] == 0.0


def test_what_is_defined_throughout_counts_throughout():
    """a2's absent liver is predicted in every row: 0 in every mean."""
    summary = absent(0.0, 0.0, 0.0).summary(["a", "none"])
    assert (summary["acc"], summary["bwt"]) == (pytest.approx(0.45), 0.0)


def test_each_organ_has_cases_of_its_own():
    """a2 has no spleen that could be compared, and a liver that can: 0.9 and 0.1 first, 0.9 and 0.5 at the end."""
    matrix = absent(0.1, 0.1, 0.5)
    spleens = {"a1": (0.6, 0.6, 0.8), "a2": (0.0, 0.0, None)}
    matrix.append(
        EvaluationRow(after, "a", case, "spleen", "dice", value)
        for case, values in spleens.items()
        for after, value in enumerate(values)
    )
    summary = matrix.summary(["a", "none"])
    assert summary["bwt"] == pytest.approx(((0.7 - 0.5) + (0.8 - 0.6)) / 2)
    assert matrix.summary(["a", "none"], organ="spleen")["bwt"] == pytest.approx(0.2)


def test_a_case_without_a_value_in_one_row_enters_no_difference():
    matrix = ResultMatrix(rows())
    matrix.append(
        EvaluationRow(after, "a", "a2", "liver", "dice", None if after == 1 else 0.5) for after in range(4)
    )
    assert matrix.summary(["a"])["bwt"] == pytest.approx(0.5 - 0.8)
