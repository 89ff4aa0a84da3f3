"""Methods with parameters per hospital, from the command line: trained, scored again and served in fresh models."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from whole_runs import only_run, places, results

from lifelong_ct.cli.main import main
from lifelong_ct.evaluation.matrix import ResultMatrix

TINY = ("debug=tiny", "reporter=quiet", "reporter.html=false")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("independent", "continual_segment")]


@pytest.fixture(scope="module", params=["lora", *SLOW])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("isolated")
    assert main([*TINY, *places(folder), "stream=organ", f"strategy={request.param}"]) == 0
    return request.param, folder


def test_evaluate_gives_the_scores_of_the_run(trained: tuple[str, Path]) -> None:
    """From the checkpoint alone: the command does not name the strategy."""
    _, folder = trained
    args = [f"from={only_run(folder)}", f"out={folder / 'again.csv'}", "stream=organ", *TINY, *places(folder)]
    assert main(["evaluate", *args]) == 0
    again = ResultMatrix.read_cases_csv(folder / "again.csv")
    whole = ResultMatrix.read_cases_csv(only_run(folder) / "cases.csv")
    assert again.metrics == whole.metrics
    assert set(again.rows()) == {row for row in whole.rows() if row.after == 2}


def test_scores_that_were_told_the_hospital_where_there_is_a_router(trained: tuple[str, Path]) -> None:
    name, folder = trained
    document = results(only_run(folder))
    if name == "continual_segment":
        assert "router" not in document
        return
    assert document["summary_told"].keys() == document["summary"].keys()
    assert {row["hospital"] for row in document["router"]["cases"]} == {"harbour", "trauma_centre"}
    assert document["memory"]["gpu"]["used"] > 0


def test_predict_serves_it(trained: tuple[str, Path]) -> None:
    _, folder = trained
    rng = np.random.default_rng(0)
    scan = nib.Nifti1Image(rng.normal(0, 100, (40, 36, 34)).astype(np.int16), np.diag([5.0, 5, 5, 1]))
    nib.save(scan, folder / "scan.nii.gz")
    where = [f"from={only_run(folder)}", f"in={folder / 'scan.nii.gz'}", f"out={folder / 'out'}"]
    assert main(["predict", *where, *TINY, *places(folder)]) == 0
    made = np.asarray(nib.load(folder / "out" / "scan_seg.nii.gz").dataobj)
    assert made.shape == (40, 36, 34)
    assert made.max() <= 4  # liver and spleen, then the kidneys


def test_the_plan_counts_what_grows(trained: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    name, folder = trained
    assert main(["plan", f"strategy={name}", "stream=organ", *TINY, *places(folder)]) == 0
    shown = capsys.readouterr().out
    kind = {"lora": "LoRA", "independent": "Independent", "continual_segment": "ContinualSegment"}[name]
    assert kind in shown
    assert ("prediction" in shown) == (name == "continual_segment")
    assert main(["plan", f"strategy={name}", "stream=organ", "memory.gpu=1MiB", *TINY, *places(folder)]) == 2
