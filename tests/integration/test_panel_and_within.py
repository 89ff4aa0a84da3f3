"""Whole runs with a panel between experiences, and with scores within them."""

from pathlib import Path
from typing import Any

import pytest
from hospitals import options, stream
from whole_runs import only_run, results, run, weights

from lifelong_ct.cli.conf import options as choices
from lifelong_ct.core.identity import Identity
from lifelong_ct.evaluation.dice import Dice
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.checking import check
from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.run_folder import RunFolder
from lifelong_ct.training.options import EvaluationOptions
from lifelong_ct.training.run import Run

QUIET = ("reporter=quiet", "reporter.html=false")
STRATEGIES = sorted(choices()["strategy"])
TRIED = ("replay", "latent_replay", "lora")
"""Those that draw, that look at features, and that route; the others are slow tests."""


def execute(tmp_path: Path, name: str, **evaluation: Any) -> tuple[dict[str, Any], ResultMatrix]:
    made = stream(*({"name": hospital, "test": [16] * 3} for hospital in "abc"))
    chosen = EvaluationOptions([Dice()], roi=(16, 16, 16), overlap=0.0, **evaluation)
    identity = Identity(tmp_path / "state")
    opts = options(made, tmp_path / name, evaluation=chosen, identity=identity)
    document = Run(opts, Reporters([RunFolder(opts.folder, str)])).execute()
    assert check(opts.folder)[0] == []
    return document, ResultMatrix.read_cases_csv(opts.folder / "cases.csv")


def test_a_panel_between_and_every_case_at_the_end(tmp_path: Path) -> None:
    """Each score is that of the run without a panel; what compares rows does so over the panel."""
    every, whole = execute(tmp_path, "whole")
    document, found = execute(tmp_path, "panel", panel=1)
    panel = {hospital: found.scored(1, hospital) for hospital in "abc"}
    assert [len(found.scored(after, "a")) for after in range(4)] == [1, 1, 1, 3]
    assert set(found.rows()) < set(whole.rows())
    differences = [
        (whole.value(3, h, among=panel[h]) or 0.0) - (whole.value(i, h, among=panel[h]) or 0.0)
        for i, h in ((1, "a"), (2, "b"))
    ]
    assert document["summary"]["bwt"] == pytest.approx(sum(differences) / 2)
    assert document["summary"]["acc"] == every["summary"]["acc"]


def test_scores_within_an_experience(tmp_path: Path) -> None:
    """Three steps each, scored after the first and the second; of the hospitals learnt so far. The rest is as without."""
    plain, whole = execute(tmp_path, "plain", panel=1)
    document, found = execute(tmp_path, "within", panel=1, within=1)
    assert list(found.within) == [(i, step) for i in (1, 2, 3) for step in (1,)]
    assert [found.within[i, 1].hospitals for i in (1, 2, 3)] == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert found.rows() == whole.rows()
    assert document["summary"] == plain["summary"]
    assert document["stability"]["min_acc"] is not None
    assert "stability" not in plain
    parts = document["seconds"]
    assert document["evaluation_share"] == pytest.approx(parts["evaluation"] / parts["total"])


@pytest.mark.parametrize(
    "strategy", [*TRIED, *(pytest.param(s, marks=pytest.mark.slow) for s in STRATEGIES if s not in TRIED)]
)
def test_scores_within_change_no_bit_of_the_weights(tmp_path: Path, strategy: str) -> None:
    for name, every in (("plain", "null"), ("within", 1)):
        args = (f"strategy={strategy}", f"evaluation.within={every}", "evaluation.schedule=final", *QUIET)
        (tmp_path / name).mkdir()
        assert run(tmp_path / name, *args) == 0
    plain, within = (only_run(tmp_path / name) for name in ("plain", "within"))
    assert weights(within) == weights(plain)
    assert "stability" in results(within)
    assert ",step," in (within / "cases.csv").read_text().splitlines()[0]


def test_a_resumed_run_has_the_same_scores_within(tmp_path: Path) -> None:
    args = ("strategy=replay", "evaluation.within=2", *QUIET)
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    assert run(tmp_path / "whole", *args) == 0
    assert run(tmp_path / "resumed", "trainer.stop_after=1", *args) == 0
    assert run(tmp_path / "resumed", *args) == 0
    whole, resumed = (only_run(tmp_path / name) for name in ("whole", "resumed"))
    assert (resumed / "cases.csv").read_bytes() == (whole / "cases.csv").read_bytes()
    assert weights(resumed) == weights(whole)
    assert results(resumed)["stability"] == results(whole)["stability"]
