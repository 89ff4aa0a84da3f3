"""What a run does with limits, columns, reporters and failures, and what it leaves in its folder."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hospitals import options, stream
from whole_runs import only_run, results, run

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.protocols import Reporter
from lifelong_ct.evaluation.dice import Dice
from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.run_folder import RunFolder
from lifelong_ct.training.options import EvaluationOptions, Requires, RunOptions, TrainerOptions
from lifelong_ct.training.run import Run

QUIET = ("reporter=quiet", "reporter.html=false")
TWO = ({"name": "a"}, {"name": "b"})


def execute(opts: RunOptions, *others: Reporter) -> dict[str, Any]:
    return Run(opts, Reporters([RunFolder(opts.folder, str), *others])).execute()


def scored(schedule: str | int) -> EvaluationOptions:
    return EvaluationOptions([Dice()], roi=(16, 16, 16), overlap=0.0, schedule=schedule)


def trained(after: int) -> TrainerOptions:
    return TrainerOptions(partial(torch.optim.AdamW, lr=1e-2), steps=2, stop_after=after)


def places(document: dict[str, Any]) -> set[tuple[int, str]]:
    """Cells of the result matrix that hold something."""
    return {(score["after"], score["hospital"]) for score in document["scores"]}


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Fails(SupervisedPlugin):
    """Raises before the last experience as long as it is told to."""

    def __init__(self, now: Callable[[], bool], error: BaseException) -> None:
        super().__init__()
        self.now, self.error = now, error

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_counter == 1 and self.now():
            raise self.error


def test_a_row_per_experience_and_a_column_per_hospital_with_test_cases(tmp_path: Path) -> None:
    """Trained without test cases: no column. Never trained on: a column."""
    made = stream(
        {"name": "a"}, {"name": "untested", "test": []}, unseen=[{"name": "u", "train": [], "test": [16]}]
    )
    document = execute(options(made, tmp_path))
    assert places(document) == {(after, name) for after in (0, 1, 2) for name in ("a", "u")}
    assert [e["hospital"] for e in document["experiences"]] == ["a", "untested"]


def test_the_schedule_chooses_the_rows_and_changes_no_score(tmp_path: Path) -> None:
    found = {}
    for schedule in ("every", "final", 2):
        made = stream(*({"name": name} for name in "abc"))
        folder = tmp_path / str(schedule)
        found[schedule] = execute(options(made, folder, evaluation=scored(schedule)))["scores"]
    for schedule, rows in (("every", {0, 1, 2, 3}), ("final", {3}), (2, {0, 2, 3})):
        assert {score["after"] for score in found[schedule]} == rows
        assert found[schedule] == [score for score in found["every"] if score["after"] in rows]


def test_joint_training_has_the_last_row_and_the_sum_of_the_steps(tmp_path: Path) -> None:
    made = stream(*TWO, {"name": "c"})
    document = execute(options(made, tmp_path, requires=Requires(past_data=True, reinitialise=True)))
    assert places(document) == {(3, "a"), (3, "b"), (3, "c")}
    assert [(e["after"], e["hospital"], e["steps"]) for e in document["experiences"]] == [(3, "a … c", 6)]
    assert document["summary"]["bwt"] is None


def test_a_gpu_limit_holds_without_a_gpu(tmp_path: Path) -> None:
    opts = options(stream(*TWO), tmp_path, limits={"gpu": "1KiB"})
    with pytest.raises(LimitExceeded, match="of gpu") as error:
        execute(opts)
    assert "weights, gradients, optimizer" in error.value.where
    assert results(opts.folder)["status"] == "failed"
    assert not (opts.folder / "checkpoints").exists()


def test_a_case_that_cannot_be_scored_is_told_before_training(tmp_path: Path) -> None:
    """64³ voxels × (int16 and a label on either grid) are 1.5 MiB; of the logits of background and two organs no more
    than a row of windows, 16 × 16 × 64 voxels, is held at once, and a window with its logits. What else must be there fits into 9 MiB."""
    made = stream({"name": "a", "test": [64]})
    opts = options(made, tmp_path, limits={"ram": "9MiB"}, evaluation=scored("final"))
    with pytest.raises(LimitExceeded) as error:
        execute(opts)
    assert "evaluation of a case 1.8 MiB" in error.value.where
    assert not (opts.folder / "train.csv").exists()


def test_the_cache_leaves_room_for_what_scoring_needs(tmp_path: Path) -> None:
    """Half of the limit: 128³ × (int16 twice and float) and a row of windows are more than 12 MiB. A first run
    has filled the store."""
    more: dict[str, Any] = {"evaluation": scored("final")}
    execute(options(stream({"name": "a", "test": [128]}), tmp_path, **more))
    more |= {"limits": {"ram": "24MiB"}, "store": tmp_path / "store"}
    document = execute(options(stream({"name": "a", "test": [128]}), tmp_path / "again", **more))
    assert document["status"] == "finished"
    assert 12 << 20 < document["memory"]["ram"]["peak"] <= 24 << 20


def test_what_a_strategy_keeps_beyond_a_limit_ends_the_run_with_its_name(tmp_path: Path) -> None:
    """It declared nothing, and asks in the second experience."""

    class Hoarder(SupervisedPlugin):
        def __init__(self) -> None:
            super().__init__()
            self.kept: torch.Tensor | None = None

        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            if strategy.clock.train_exp_counter == 1:
                self.kept = torch.zeros(1 << 20)

    opts = options(stream(*TWO), tmp_path, new_plugins=lambda: [Hoarder()], limits={"gpu": "1MiB"})
    with pytest.raises(LimitExceeded, match=r"Hoarder needs 4\.0 MiB"):
        execute(opts)
    document = results(opts.folder)
    assert document["status"] == "failed"
    assert document["memory"]["gpu"]["peak"] <= 1 << 20
    assert len(document["experiences"]) == 1


@pytest.mark.parametrize(
    "event",
    ["run_started", "stage", "experience_started", "step", "evaluated", "experience_ended", "run_ended"],
)
def test_a_failing_reporter_never_stops_a_run(tmp_path: Path, event: str) -> None:
    class Broken:
        def event(self, name: str, **data: Any) -> None:
            if name == event:
                raise RuntimeError("no net")

        def close(self, status: str) -> None:
            raise RuntimeError("no net")

    opts = options(stream(*TWO), tmp_path)
    document = execute(opts, Broken())
    assert results(opts.folder)["status"] == document["status"] == "finished"
    assert results(opts.folder)["scores"] == document["scores"]
    assert (opts.folder / "log.txt").read_text().count("Broken failed") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LifelongCTError("no", "here", "mend"), "failed"),
        (OSError("gone"), "failed"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_a_run_that_broke_says_so_and_goes_on(tmp_path: Path, error: BaseException, status: str) -> None:
    whole = execute(options(stream(*TWO), tmp_path / "whole"))
    broken = [True]

    def plugins() -> list[SupervisedPlugin]:
        return [Fails(lambda: broken[0], error)]

    opts = options(stream(*TWO), tmp_path, new_plugins=plugins, requires=Requires())
    with pytest.raises(type(error)):
        execute(opts)
    document = results(opts.folder)
    assert document["status"] == status
    assert document["error"]
    assert places(document) == {(after, name) for after in (0, 1) for name in "ab"}
    broken[0] = False
    again = execute(options(stream(*TWO), tmp_path, new_plugins=plugins))
    assert (again["status"], again["error"]) == ("finished", None)
    assert again["scores"] == whole["scores"]
    assert "going on after experience 1" in (opts.folder / "log.txt").read_text()


def test_a_session_that_cannot_begin_costs_nothing_of_the_one_before(tmp_path: Path) -> None:
    execute(options(stream(*TWO), tmp_path, trainer=trained(1)))
    before = results(tmp_path / "run")
    with pytest.raises(LimitExceeded):
        execute(options(stream(*TWO), tmp_path, limits={"ram": "1KiB"}))
    document = results(tmp_path / "run")
    assert (before["status"], document["status"]) == ("stopped", "failed")
    assert document["scores"] == before["scores"]
    again = execute(options(stream(*TWO), tmp_path))
    whole = execute(options(stream(*TWO), tmp_path / "whole"))
    assert again["scores"] == whole["scores"]


def test_the_command_leaves_a_finished_run_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("strategy=naive", "evaluation.schedule=final", *QUIET)
    assert run(tmp_path, *args) == 0
    folder = only_run(tmp_path)
    before = contents(folder)
    assert run(tmp_path, f"paths.run={folder}", *args, "memory.ram=1MiB") == 2
    assert "belongs to the configuration" in capsys.readouterr().err
    assert run(tmp_path, *args, "memory.ram=1MiB") == 2
    assert run(tmp_path, *args) == 0
    assert contents(folder) == before
