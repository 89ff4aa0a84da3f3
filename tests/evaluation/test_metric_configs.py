"""The lists of metrics in `conf/evaluation`, and what the page about them says."""

from pathlib import Path

import numpy as np
import pytest

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.cases import score_case
from lifelong_ct.evaluation.matrix import ResultMatrix

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def metrics(*overrides: str) -> list:
    config = compose.plain(compose.compose(compose.Request(list(overrides))))
    return build(config["evaluation"]["metrics"], "evaluation.metrics")


def names(found: list) -> list[str]:
    return [name for metric in found for name in metric.names]


def test_the_default_is_cheap_and_stays_as_it_was() -> None:
    volume = ["volume_ml", "reference_ml", "volume_error_ml", "volume_abs_error_ml"]
    assert names(metrics()) == ["dice", *volume]


def test_full_has_each_once_and_the_page_tells_of_all() -> None:
    found = names(metrics("evaluation=full"))
    assert len(found) == len(set(found)) == 15
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in found)


def test_full_changes_nothing_but_the_metrics_and_that_every_case_has_them() -> None:
    default, full = (
        compose.plain(compose.compose(compose.Request([f"evaluation={name}"])))["evaluation"]
        for name in ("default", "full")
    )
    every = {"metrics": None, "panel": None, "panel_hospitals": None}
    assert {**full, "metrics": None} == {**default, **every}


def test_what_full_finds_goes_through_the_table_of_cases(tmp_path: Path) -> None:
    """Organs without lesions have empty fields in their columns, and nothing counts them."""
    label = np.zeros((6, 6, 6), np.uint8)
    label[1:5, 1:5, 1:5], label[2, 2, 2] = 1, 2
    case = RawCase(np.zeros(label.shape, np.int16), label, np.eye(4), ("liver", "liver_tumor"))
    found = score_case(label, case, {"liver": 1, "liver_tumor": 2}, case.spacing, metrics("evaluation=full"))
    assert len(found) == 15 + 11
    matrix = ResultMatrix(EvaluationRow(1, "a", "p1", *row) for row in found)
    matrix.write_cases_csv(tmp_path / "cases.csv")
    read = ResultMatrix.read_cases_csv(tmp_path / "cases.csv")
    for of in (matrix, read):
        assert (
            of.value(1, "a", "liver", "nsd") == of.value(1, "a", "liver_tumor", "lesion_sensitivity") == 1.0
        )
        assert of.value(1, "a", None, "lesions") == 1.0
        assert of.value(1, "a", "liver", "lesions") is None


@pytest.mark.parametrize(
    ("tolerance", "liver", "sacrum"),
    [("null", 5, 3), ("2.0", 2, 2), ("{liver:7}", 7, 3), ("{default:4}", 5, 4)],
)
def test_tolerances_from_a_configuration(tolerance: str, liver: float, sacrum: float) -> None:
    entry = f"{{_target_: lifelong_ct.evaluation.surface.Surface, tolerance: {tolerance}}}"
    (surface,) = metrics(f"evaluation.metrics=[{entry}]")
    assert [surface.for_organ(organ).tolerance for organ in ("liver", "sacrum")] == [liver, sacrum]
