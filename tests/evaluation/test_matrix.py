from pathlib import Path

import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix


def row(
    after: int, hospital: str, case: str, organ: str, value: float | None, metric: str = "dice"
) -> EvaluationRow:
    return EvaluationRow(after, hospital, case, organ, metric, value)


ROWS = [
    row(0, "a", "a1", "liver", 0.0),
    row(1, "a", "a1", "liver", 0.8),
    row(1, "a", "a1", "spleen", None),
    row(1, "a", "a2", "liver", 0.6),
    row(1, "a", "a2", "spleen", 0.2),
    row(1, "b", "b1", "liver", 0.5),
    row(2, "a", "a1", "liver", 0.4),
    row(2, "b", "b1", "liver", 1.0),
    row(2, "b", "b1", "liver", 12.0, "volume_ml"),
]


def test_means_over_cases_then_over_organs() -> None:
    matrix = ResultMatrix(ROWS)
    assert matrix.value(1, "a", "liver") == pytest.approx(0.7)
    assert matrix.value(1, "a", "spleen") == pytest.approx(0.2)
    assert matrix.value(1, "a") == pytest.approx((0.7 + 0.2) / 2)
    assert matrix.value(2, "a", "spleen") is None
    assert matrix.value(7, "a") is None
    assert matrix.cases(1, "a") == {"a1": pytest.approx(0.8), "a2": pytest.approx(0.4)}
    assert (matrix.hospitals, matrix.organs, matrix.metrics, matrix.last) == (
        ["a", "b"],
        ["liver", "spleen"],
        ["dice", "volume_ml"],
        2,
    )


def test_the_table_has_a_hole_where_nothing_was_scored() -> None:
    table, hospitals = ResultMatrix(ROWS).table()
    expected = np.array([[0.0, np.nan], [0.45, 0.5], [0.4, 1.0]])
    assert hospitals == ["a", "b"]
    np.testing.assert_allclose(table, expected)
    liver, _ = ResultMatrix(ROWS).table(organ="liver")
    np.testing.assert_allclose(liver, [[0.0, np.nan], [0.7, 0.5], [0.4, 1.0]])


def test_summary_skips_a_hospital_without_test_cases() -> None:
    summary = ResultMatrix(ROWS).summary(["a", "no tests", "b"])
    assert summary["acc"] == pytest.approx((0.4 + 1.0) / 2)
    assert summary["bwt"] == pytest.approx(0.4 - 0.8)  # over a1: a2 is not in the last row


def test_joint_training_scored_once_at_the_end() -> None:
    matrix = ResultMatrix([row(3, h, "c", "liver", 0.6) for h in "abc"])
    summary = matrix.summary(["a", "b", "c"])
    assert summary["acc"] == summary["final_mean"] == pytest.approx(0.6)
    assert (summary["bwt"], summary["fwt"], summary["forgetting"]) == (None, None, None)
    assert np.isnan(matrix.table()[0][:3]).all()


def test_scores_of_results_json() -> None:
    scores = ResultMatrix(ROWS).to_scores()
    mine = [s for s in scores if (s["after"], s["hospital"], s["metric"]) == (1, "a", "dice")]
    assert mine == [
        {"after": 1, "hospital": "a", "organ": "liver", "metric": "dice", "mean": pytest.approx(0.7), "n": 2},
        {
            "after": 1,
            "hospital": "a",
            "organ": "spleen",
            "metric": "dice",
            "mean": pytest.approx(0.2),
            "n": 1,
        },
        {"after": 1, "hospital": "a", "organ": "mean", "metric": "dice", "mean": pytest.approx(0.45), "n": 2},
    ]


def test_a_score_given_twice_counts_once() -> None:
    matrix = ResultMatrix(ROWS)
    matrix.append([row(1, "a", "a1", "liver", 0.0)])
    assert matrix.value(1, "a", "liver") == pytest.approx(0.3)
    assert len(matrix.rows()) == len(ROWS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_gives_no_number_is_told(value: float) -> None:
    with pytest.raises(LifelongCTError, match="dice"):
        ResultMatrix([row(1, "a", "a1", "liver", value)])


def test_state_there_and_back() -> None:
    matrix, copy = ResultMatrix(ROWS), ResultMatrix([row(9, "z", "z", "z", 1.0)])
    copy.load_state_dict(matrix.state_dict())
    assert copy.rows() == matrix.rows()
    assert copy.state_dict() == matrix.state_dict()


def test_cases_csv_there_and_back(tmp_path: Path) -> None:
    matrix = ResultMatrix([*ROWS, row(2, 'b "x", y', "c", "liver", 0.1 + 0.2)])
    matrix.write_cases_csv(tmp_path / "cases.csv")
    lines = (tmp_path / "cases.csv").read_text().splitlines()
    assert lines[0] == "after,hospital,case,organ,dice,volume_ml"
    assert "1,a,a1,spleen,," in lines
    assert "2,b,b1,liver,1.0,12.0" in lines
    back = ResultMatrix.read_cases_csv(tmp_path / "cases.csv")
    assert {r for r in back.rows() if r.value is not None} == {
        r for r in matrix.rows() if r.value is not None
    }
    assert back.to_scores()[0] == matrix.to_scores()[0]


def test_cases_csv_holds_what_fell_within_an_experience_that_is_not_over(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    ResultMatrix([EvaluationRow(1, "a", "c", "liver", "dice", 0.5, step=2)]).write_cases_csv(path)
    assert path.read_text().splitlines() == ["after,step,hospital,case,organ,dice", "1,2,a,c,liver,0.5"]
    assert list(ResultMatrix.read_cases_csv(path).within) == [(1, 2)]


def test_cases_csv_tells_whose_case_it_is_and_who_labelled_it(tmp_path: Path) -> None:
    """In the last columns; a file of an earlier version has neither."""
    rows = [EvaluationRow(1, "a", f"c{i}", "liver", "dice", 0.5, "p", ("expert", "model")[i]) for i in (0, 1)]
    matrix, path = ResultMatrix([*rows, row(1, "b", "c", "liver", 0.5)]), tmp_path / "cases.csv"
    matrix.write_cases_csv(path)
    assert path.read_text().splitlines() == [
        "after,hospital,case,organ,dice,patient,label_kind",
        "1,a,c0,liver,0.5,p,expert",
        "1,a,c1,liver,0.5,p,model",
        "1,b,c,liver,0.5,,",
    ]
    back, copy = ResultMatrix.read_cases_csv(path), ResultMatrix()
    copy.load_state_dict(matrix.state_dict())
    for each in (matrix, back, copy):
        assert [each.about(*key) for key in (("a", "c0"), ("a", "c1"), ("b", "c"))] == [
            ("p", "expert"),
            ("p", "model"),
            ("", ""),
        ]
        assert next((r.patient, r.label_kind) for r in each.rows()) == ("p", "expert")
    copy.load_state_dict(
        {k: v for k, v in matrix.state_dict().items() if k != "about"}
    )  # of an earlier version
    assert copy.about("a", "c0") == ("", "")


@pytest.mark.parametrize("text", [None, "a,b\n1,2\n", "after,hospital,case,organ,dice\nx,a,c,liver,0.5\n"])
def test_a_file_that_is_no_table_of_cases_is_told(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "cases.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LifelongCTError) as error:
        ResultMatrix.read_cases_csv(path)
    assert error.value.where == str(path)


def test_an_empty_matrix() -> None:
    table, hospitals = ResultMatrix().table()
    assert (table.shape, hospitals, ResultMatrix().to_scores()) == ((1, 0), [], [])
    assert set(ResultMatrix().summary([]).values()) == {None}
