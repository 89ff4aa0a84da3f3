from pathlib import Path

import pytest

from lifelong_ct.reporting.text import (
    caveats,
    duration,
    measures,
    number,
    plural,
    sentence,
    shown_path,
    size,
    stored,
    table,
)


@pytest.mark.parametrize(
    ("value", "signed", "expected"),
    [
        (0.5, False, "0.500"),
        (0.5, True, "+0.500"),
        (-0.25, True, "-0.250"),
        (-1e-9, False, "0.000"),
        (None, True, "–"),
        (float("nan"), False, "–"),
    ],
)
def test_number(value: float | None, signed: bool, expected: str) -> None:
    assert number(value, signed=signed) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.42, "0.4 s"), (59, "59 s"), (75, "1 min 15 s"), (3700, "1 h 01 min"), (None, "–")],
)
def test_duration(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


def test_size_and_plural() -> None:
    assert (size(1536), size(None)) == ("1.5 KiB", "–")
    assert (plural(1, "seed"), plural(2, "seed"), plural(3, "strategy")) == (
        "1 seed",
        "2 seeds",
        "3 strategies",
    )


def test_a_table_is_aligned() -> None:
    assert table([["a", "b"], ["long", "1"]]) == ["a     b", "long  1"]


def test_what_is_drawn_is_called_synthetic() -> None:
    (text,) = caveats({"synthetic": True, "label_kinds": ["synthetic"], "training_cases": 3})
    assert text.startswith("Synthetic")


def test_a_handful_of_model_made_labels_is_no_science() -> None:
    (text,) = caveats({"synthetic": False, "label_kinds": ["expert", "model"], "training_cases": 3})
    assert text == "A handful of scans, some labels made by models: a working pipeline, not science."
    assert caveats({"synthetic": False, "label_kinds": ["expert"], "training_cases": 500}) == []


def test_the_sentence_tells_what_came_out(made_up) -> None:
    assert sentence(made_up().results("finished")) == (
        "The strategy naive learnt 3 hospitals of the stream toy, seed 0. Mean Dice on the hospitals it was "
        "trained on is 0.700 at the end; earlier hospitals lost 0.200 on average."
    )
    assert sentence({"status": "failed", "run": {"strategy": "ewc", "stream": "toy", "seed": 1}}) == (
        "The strategy ewc failed while learning 0 hospitals of the stream toy, seed 1."
    )


def test_when_learnt_means_nothing_for_joint_training(made_up) -> None:
    told = dict(measures(made_up(first=3).results()["summary"]))
    assert told["acc"] == "0.700"
    assert told["diagonal_mean"] == told["bwt"] == "–"


@pytest.mark.parametrize(
    ("peak", "used", "expected"), [(0, 0, "0 B"), (2048, 1024, "1.0 KiB"), (2048, 0, "–"), (2048, None, "–")]
)
def test_what_nobody_told_is_a_dash(peak: int, used: int | None, expected: str) -> None:
    assert stored({"peak": peak, "used": used}) == expected


def test_a_log_does_not_tell_where_folders_are(tmp_path: Path, monkeypatch) -> None:
    run = "toy-naive-s0-0123abcd"
    page = tmp_path / "Doe_Jane" / "runs" / run / "report.html"
    assert shown_path(page, watched=True) == str(page)
    assert shown_path(page, watched=False) == f"…/runs/{run}/report.html"
    assert shown_path(tmp_path / "Doe_Jane" / "report.html", watched=False) == "…/report.html"
    monkeypatch.chdir(page.parent.parent.parent.parent)
    assert shown_path(page, watched=True) == f"Doe_Jane/runs/{run}/report.html"
    assert shown_path(page, watched=False) == f"…/runs/{run}/report.html"
    (tmp_path / "Doe_Jane").mkdir()
    monkeypatch.chdir(tmp_path / "Doe_Jane")
    assert shown_path(page, watched=False) == f"runs/{run}/report.html"
    comparison = Path("runs/demo/report/comparison.html")
    assert shown_path(comparison, watched=False) == str(comparison)
