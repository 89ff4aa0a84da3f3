"""A run that is killed, whenever that is, ends as one that nobody touched."""

import os
import random
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
from whole_runs import only_run, results, run, weights

from lifelong_ct.cli.conf import own_folder
from lifelong_ct.reporting.run_folder import read_run
from lifelong_ct.training import checkpoint
from lifelong_ct.training.learner import Learner
from lifelong_ct.training.scoring import Scorer

RUN = ("strategy=replay", "reporter=quiet", "reporter.html=false", "checkpoint.every_steps=1")
ON_DISK = (*RUN, "memory.exemplar_tier=disk")


def outcome(folder: Path) -> tuple[object, ...]:
    found = only_run(folder)
    document = results(found)
    assert document["status"] == "finished"
    assert not list(found.glob("checkpoints/within_*"))
    steps = [row[:4] for row in read_run(found).steps]
    spent = [{key: row[key] for key in ("patches", "seen_again", "steps")} for row in document["experiences"]]
    exemplars = {path.name: path.read_bytes() for path in found.glob("exemplars/*")}
    return document["scores"], (found / "cases.csv").read_bytes(), weights(found), exemplars, steps, spent


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Of a run that nobody kills."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, *RUN) == 0
    return outcome(folder)


@pytest.fixture(scope="module")
def whole_on_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Likewise, with exemplars as files."""
    folder = tmp_path_factory.mktemp("whole-on-disk")
    assert run(folder, *ON_DISK) == 0
    return outcome(folder)


def dying(folder: Path, args: tuple[str, ...], when: Callable[[], object]) -> int:
    """Runs in a child that `when` prepares to be killed; its exit code."""
    return forked.run(lambda: (when(), run(folder, *args) and os._exit(1)))


def at_call(module: Any, name: str, number: int) -> Callable[[], None]:
    """Killed in the n-th call of a function, once its work is done: a file that is whole in a checkpoint that is not
    (`save_file`), or one on its way to the disk (`fsync`)."""

    def prepare() -> None:
        function, left = getattr(module, name), iter(range(number - 1))

        def counted(*args: Any) -> None:
            function(*args)
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(module, name, counted)

    return prepare


def after(seconds: float) -> Callable[[], None]:
    def prepare() -> None:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()

    return prepare


def test_killed_twice_while_it_writes(whole_on_disk: tuple[object, ...], tmp_path: Path) -> None:
    """In the middle of an experience; and in that of the next one, after it has gone on from there."""
    for number, expected in ((2, "within_001_step_000001"), (5, "within_002_step_000001")):
        assert dying(tmp_path, ON_DISK, at_call(checkpoint, "save_file", number)) == -signal.SIGKILL
        assert [path.name for path in only_run(tmp_path).glob("checkpoints/within_*")] == [expected]
    assert forked.run(lambda: run(tmp_path, *ON_DISK) and os._exit(1)) == 0
    assert "going on after step" in (only_run(tmp_path) / "log.txt").read_text()
    assert outcome(tmp_path) == whole_on_disk


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_a_random_moment(
    whole: tuple[object, ...], whole_on_disk: tuple[object, ...], tmp_path: Path, seed: int
) -> None:
    drawn = random.Random(seed)
    args, expected = ((RUN, whole), (ON_DISK, whole_on_disk))[seed % 2]
    when = at_call(os, "fsync", drawn.randrange(20, 200)) if seed % 4 < 2 else after(drawn.uniform(0.2, 2.0))
    assert dying(tmp_path, args, when) in (0, -signal.SIGKILL)
    assert forked.run(lambda: run(tmp_path, *args) and os._exit(1)) == 0
    assert outcome(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(file.stem for file in (own_folder() / "strategy").glob("*.yaml")))
def test_every_strategy_killed_in_the_second_experience(name: str, tmp_path: Path) -> None:
    args = (f"strategy={name}", *RUN[1:])
    assert dying(tmp_path, args, at_call(checkpoint, "save_file", 6)) == -signal.SIGKILL
    assert forked.run(lambda: run(tmp_path, *args) and os._exit(1)) == 0
    killed = outcome(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    assert run(tmp_path, *args) == 0
    assert killed == outcome(tmp_path)


def test_an_evaluation_that_fails_costs_no_training(
    whole_on_disk: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, learn, learnt = Scorer.score, Learner.learn, []

    def failing(self, model, after, *args, **kwargs):
        if after == 1:
            raise OSError("the disk with the test cases is gone")
        return score(self, model, after, *args, **kwargs)

    def noted(self, experience, *args, **kwargs):
        learnt.append(experience.current_experience)
        learn(self, experience, *args, **kwargs)

    monkeypatch.setattr(Scorer, "score", failing)
    assert run(tmp_path, *ON_DISK) != 0
    assert results(only_run(tmp_path))["status"] == "failed"
    monkeypatch.setattr(Scorer, "score", score)
    monkeypatch.setattr(Learner, "learn", noted)
    assert run(tmp_path, *ON_DISK) == 0
    assert learnt == [1]
    assert outcome(tmp_path) == whole_on_disk
