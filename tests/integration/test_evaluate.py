"""The verb `evaluate`: any checkpoint on any hospitals, whatever organs either of them knows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from scans import conf, hospital
from served import SMALL, network, save

from lifelong_ct.cli.main import main
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.training import scoring

ROI = (16, 24, 16)


@pytest.fixture(scope="module")
def north(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a stream with one hospital, that annotates liver and spleen."""
    folder = tmp_path_factory.mktemp("north")
    return conf(folder / "conf", north={"manifest": str(hospital(folder))})


def evaluate(served: Path, tmp_path: Path, north: list[str], *more: str) -> int:
    where = [f"from={served}", f"out={tmp_path / 'cases.csv'}", f"paths.state={tmp_path / 'state'}"]
    return main(["evaluate", *where, *north, *SMALL, *more])


def scored(tmp_path: Path) -> set[str]:
    return {row.organ for row in ResultMatrix.read_cases_csv(tmp_path / "cases.csv").rows()}


def test_organs_that_the_model_has_never_heard_of_are_told_and_not_scored(
    north: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    organs = ("liver", "pancreas")
    served = save(tmp_path / "after_001", network(organs), organs, (9, 9, 9), ROI)
    assert evaluate(served, tmp_path, north) == 0
    shown = capsys.readouterr().out
    assert "never heard of them: spleen" in shown
    assert scored(tmp_path) == {"liver"}


def test_organs_of_its_stream_that_it_has_not_learnt_yet_are_empty_predictions(
    north: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = save(tmp_path / "after_001", network(("liver",)), ("liver",), (9, 9, 9), ROI, coming=("spleen",))
    assert evaluate(served, tmp_path, north) == 0
    assert "never heard" not in capsys.readouterr().out
    rows = ResultMatrix.read_cases_csv(tmp_path / "cases.csv").rows()
    assert {row.value for row in rows if (row.organ, row.metric) == ("spleen", "dice")} == {0.0}


def test_hospitals_without_any_organ_of_the_model_are_refused(
    north: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = save(tmp_path / "after_001", network(("pancreas",)), ("pancreas",), None, ROI)
    assert evaluate(served, tmp_path, north) == 2
    assert "annotate liver, spleen, the model knows pancreas" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "roi"), [([], ROI), (["evaluation.roi=[16,16,16]"], (16, 16, 16))])
def test_the_window_is_that_of_the_checkpoint_unless_it_is_named(
    more: list[str], roi: tuple[int, ...], north: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    plain = scoring.predict_labels

    def watched(model: Any, image: Any, window: Any, *args: Any, **more: Any) -> Any:
        seen.append(tuple(window))
        return plain(model, image, window, *args, **more)

    monkeypatch.setattr(scoring, "predict_labels", watched)
    organs = ("liver", "spleen")
    served = save(tmp_path / "after_001", network(organs), organs, (9, 9, 9), ROI)
    assert evaluate(served, tmp_path, north, *more) == 0
    assert set(seen) == {roi}


@pytest.mark.parametrize(("more", "kind"), [([], torch.bfloat16), (["trainer.amp=null"], None)])
def test_autocast_is_that_of_the_run_unless_it_is_named(
    more: list[str], kind: Any, north: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    plain = scoring.predict_labels

    def watched(
        model: Any, image: Any, roi: Any, overlap: float, device: Any, amp: Any, *args: Any, **kw: Any
    ):
        seen.append((amp, overlap))
        return plain(model, image, roi, overlap, device, amp, *args, **kw)

    monkeypatch.setattr(scoring, "predict_labels", watched)
    organs = ("liver", "spleen")
    said = {"overlap": 0.5, "precision": "fp32", "mirror": [], "amp": "bf16"}
    served = save(tmp_path / "after_001", network(organs), organs, (9, 9, 9), ROI, said=said)
    assert evaluate(served, tmp_path, north, *more) == 0
    assert set(seen) == {(kind, 0.5)}
