"""Bland–Altman by hand."""

import pytest

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.agreement import agreement_panels, volumes


def matrix(*rows: tuple[str, str, str, float, float]) -> ResultMatrix:
    return ResultMatrix(
        EvaluationRow(2, hospital, case, organ, metric, value)
        for hospital, case, organ, predicted, reference in rows
        for metric, value in (("volume_ml", predicted), ("reference_ml", reference))
    )


def test_volumes_by_hand() -> None:
    (found,) = volumes(
        matrix(("a", "1", "liver", 11, 9), ("a", "2", "liver", 20, 20), ("b", "3", "liver", 28, 32)), {"b"}
    )
    assert found.mean.tolist() == [10, 20, 30]
    assert found.difference.tolist() == [2, 0, -4]
    assert found.trained.tolist() == [True, True, False]
    assert found.relative == pytest.approx(2 / 20)


def test_points_are_the_pairs_of_the_lines() -> None:
    rows = [("a", str(i), "liver", 30.0 + i, 50.0 + i) for i in range(4)]
    rows += [("a", str(i), "liver", 0.0, 0.0) for i in range(4, 20)]
    (found,) = volumes(matrix(*rows), ())
    assert found.difference.tolist() == [-20.0] * 4
    figure = agreement_panels(matrix(*rows), ())
    assert figure is not None
    assert figure.axes[0].get_title(loc="left") == "liver (n = 4)"


def test_lines_by_hand() -> None:
    rows = (("a", "1", "liver", 11, 9), ("a", "2", "liver", 20, 20), ("b", "3", "liver", 28, 32))
    figure = agreement_panels(matrix(*rows), {"b"})
    assert figure is not None
    lines = [line.get_ydata()[0] for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1][-4:]
    # differences 2, 0, -4: squares about -2/3 are 64/9 + 4/9 + 100/9 = 168/9; over 2: 28/3
    reach = 1.96 * (28 / 3) ** 0.5
    assert lines == pytest.approx([0, -2 / 3, -2 / 3 - reach, -2 / 3 + reach], abs=1e-3)


def test_no_volumes_no_figure() -> None:
    assert agreement_panels(ResultMatrix([EvaluationRow(1, "a", "1", "liver", "dice", 0.5)]), ()) is None


def test_a_panel_per_organ() -> None:
    rows = [("a", str(i), organ, 10.0 + i, 10.0) for i in range(4) for organ in ("liver", "spleen", "aorta")]
    figure = agreement_panels(matrix(*rows), ())
    assert figure is not None
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["liver (n = 4)", "spleen (n = 4)", "aorta (n = 4)"]
