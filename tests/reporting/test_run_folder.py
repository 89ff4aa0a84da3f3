import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.reporting.run_folder import RunFolder, read_run, redacted


def test_a_finished_run_is_read_back(tmp_path: Path, made_up) -> None:
    made_up().play(RunFolder(tmp_path, str))
    run = read_run(tmp_path)
    assert run.status == "finished"
    assert run.info["strategy"] == "naive"
    assert (run.trained, run.unseen) == (["a", "b", "c"], ["d"])
    assert run.matrix.value(3, "a") == pytest.approx(0.5)
    assert run.results["summary"]["acc"] == pytest.approx(0.7)
    assert run.results["summary"]["bwt"] == pytest.approx(-0.2)
    assert [step.experience for step in run.steps] == [1] * 5 + [2] * 5 + [3] * 5
    assert run.steps[6].loss == pytest.approx(1 / 3)  # experience 2, step 1
    assert run.config == {"strategy": {"name": "naive"}, "seed": 0}
    log = (tmp_path / "log.txt").read_text()
    assert "experience 2 of 3: b, 8 cases, 5 steps" in log
    assert "run finished: acc 0.700, bwt -0.200" in log


def test_results_tell_that_the_run_goes_on(tmp_path: Path, made_up) -> None:
    folder, run = RunFolder(tmp_path, str), made_up()
    run.start(folder)
    run.experience(folder, 1)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["status"] == "running"
    assert {score["after"] for score in results["scores"]} == {0, 1}
    assert len((tmp_path / "train.csv").read_text().splitlines()) == 1 + 5


def test_a_kill_at_any_write_leaves_a_folder_that_says_whose_it_is(
    tmp_path: Path, made_up, monkeypatch
) -> None:
    """Without results.json the same command would refuse the folder for ever."""

    class Killed(BaseException):
        pass

    for writes in range(4):
        left = writes

        def replace(source: str, target: Path, real=os.replace) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            real(source, target)

        folder = tmp_path / str(writes)
        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(os, "replace", replace)
            made_up().start(RunFolder(folder, str))
        kept = [path.name for path in folder.iterdir()]
        assert not kept or "results.json" in kept


def test_steps_that_are_trained_again_stand_once(tmp_path: Path, made_up) -> None:
    run, killed = made_up(), RunFolder(tmp_path, str)
    run.start(killed)
    run.experience(killed, 1)
    run.experience(killed, 2)  # ended, but its checkpoint was never written
    with open(tmp_path / "train.csv", "a") as file:
        file.write("3,0,0.2")  # the kill cut this line
    resumed = RunFolder(tmp_path, str)
    run.start(resumed, done=1)
    assert [step.experience for step in read_run(tmp_path).steps] == [1] * 5
    run.experience(resumed, 2)
    run.experience(resumed, 3)
    run.end(resumed)
    assert [(s.experience, s.step) for s in read_run(tmp_path).steps] == [
        (e, s) for e in (1, 2, 3) for s in range(5)
    ]
    assert "going on after experience 1" in (tmp_path / "log.txt").read_text()


def test_a_failure_is_kept_with_what_was_found(tmp_path: Path, made_up) -> None:
    folder, run = RunFolder(tmp_path, str), made_up()
    run.start(folder)
    run.experience(folder, 1)
    run.end(folder, "failed", upto=1, error="out of patience")
    read = read_run(tmp_path)
    assert (read.status, read.results["error"]) == ("failed", "out of patience")
    assert read.matrix.value(1, "a") == pytest.approx(0.8)
    assert "error: out of patience" in (tmp_path / "log.txt").read_text()


def test_a_session_that_cannot_begin_costs_no_earlier_result(tmp_path: Path, made_up) -> None:
    run = made_up()
    first = RunFolder(tmp_path, str)
    run.start(first)
    run.experience(first, 1)
    run.end(first, "stopped", upto=1)
    cases = (tmp_path / "cases.csv").read_bytes()
    later = RunFolder(tmp_path, str)
    empty = {"schema": 1, "status": "failed", "run": run.run, "scores": [], "summary": {}, "error": "no disk"}
    later.event("run_ended", status="failed", results=empty, matrix=None, error="no disk")
    later.close("failed")
    read = read_run(tmp_path)
    assert (read.status, read.results["error"]) == ("failed", "no disk")
    assert read.results["summary"]["acc"] == pytest.approx(0.5)  # (.8 + .4 + .3) / 3
    assert (tmp_path / "cases.csv").read_bytes() == cases
    assert len(read.steps) == 5


def test_a_run_that_never_began_leaves_its_error(tmp_path: Path, made_up) -> None:
    folder = RunFolder(tmp_path / "new", str)
    results = {
        "schema": 1,
        "status": "failed",
        "run": made_up().run,
        "scores": [],
        "summary": {},
        "error": "x",
    }
    folder.event("run_ended", status="failed", results=results, matrix=None, error="x")
    assert read_run(tmp_path / "new").results["error"] == "x"


def test_what_is_private_is_in_no_file(tmp_path: Path, made_up) -> None:
    def redact(text: str) -> str:
        return text.replace("DOE", "<hidden>")

    folder = RunFolder(tmp_path, redact)
    run = made_up(config={"root": "/data/DOE", "list": ["DOE.nii.gz", 3], "DOE": None})
    run.start(folder)
    folder.event("note", text="the file of DOE is odd")
    folder.event("stage", text="reading DOE", done=1, total=1)
    run.end(folder, "failed", upto=1, error="cannot read DOE.nii.gz")
    for file in tmp_path.rglob("*"):
        assert b"DOE" not in file.read_bytes(), file
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config == {"root": "/data/<hidden>", "list": ["<hidden>.nii.gz", 3], "<hidden>": None}


def test_redacted_makes_plain_lists_of_tuples() -> None:
    assert redacted({"a": ("x", 1)}, str.upper) == {"A": ["X", 1]}


@pytest.mark.parametrize("content", [None, "[]", '{"schema": 2, "run": {}}', "{"])
def test_another_folder_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(LifelongCTError):
        read_run(tmp_path)


def test_a_damaged_train_csv_is_named(tmp_path: Path, made_up) -> None:
    made_up().play(RunFolder(tmp_path, str))
    (tmp_path / "train.csv").write_text("experience,step,loss,lr,seconds\n1,x,0,0,0\n")
    with pytest.raises(LifelongCTError, match="not a log of training steps"):
        read_run(tmp_path)
