"""A run on two ranks: that of one with doubled batches; one that is killed ends the other, and a restart goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import forked
import numpy as np
import pytest
import ranked
from safetensors.numpy import load_file
from whole_runs import TINY, only_run, places, results, run, weights

from lifelong_ct.training.group import Group

SGD = (
    "trainer.optimizer._target_=torch.optim.SGD",
)  # Adam makes large steps of gradients that are roundings
COMMON = ("strategy=replay", "trainer.augment=null", *SGD, "reporter=quiet", "reporter.html=false")
TWO = (*COMMON, "strategy.plugins.0.exemplars_per_batch=1", "checkpoint.every_steps=1")
ONE = (*COMMON, "strategy.plugins.0.exemplars_per_batch=2", "trainer.batch_size=2")


def on_two(folder: Path, before: Callable[[int], object] = lambda rank: None) -> list[int]:
    """Exit codes."""
    return list(map(forked.ended, ranked.start(lambda rank: (before(rank), os._exit(run(folder, *TWO))))))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    assert on_two(folder) == [0, 0]
    return folder


def test_one_rank_with_the_doubled_batch(whole: Path, tmp_path: Path) -> None:
    """One writer, all scores."""
    assert run(tmp_path, *ONE) == 0
    two, one = only_run(whole), only_run(tmp_path)
    found, expected = (load_file(path / "checkpoints/after_002/tensors.safetensors") for path in (two, one))
    names = [name for name in expected if "/learner/model" in name]
    assert names
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-5)
    two_scores, one_scores = (results(path)["scores"] for path in (two, one))
    keys = ("after", "hospital", "organ", "metric", "n")
    assert [[row[k] for k in keys] for row in two_scores] == [[row[k] for k in keys] for row in one_scores]
    lines = (two / "train.csv").read_text().splitlines()
    assert len(lines) == len((one / "train.csv").read_text().splitlines()) == 7
    spent = [
        [row[key] for row in results(path)["experiences"]]
        for path in (two, one)
        for key in ("patches", "seen_again")
    ]
    assert spent[:2] == spent[2:]


def test_a_rank_that_is_killed(whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In the second experience. The other one ends with a message, and the same command goes on."""

    def dying(rank: int) -> None:
        average, left = Group.average, iter(range(9))

        def counted(self, tensors):
            average(self, tensors)
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        if rank == 1:
            Group.average = counted

    began = time.monotonic()
    assert on_two(tmp_path, dying) == [2, -signal.SIGKILL]
    assert time.monotonic() - began < 60
    assert "another rank has ended" in capfd.readouterr().err
    found = only_run(tmp_path)
    assert results(found)["status"] == "failed"
    assert "another rank has ended" in results(found)["error"]
    assert list(found.glob("checkpoints/within_002*"))
    assert run(tmp_path, *TWO) == 2
    assert "the run began with 2 ranks, these are 1" in capfd.readouterr().err
    assert on_two(tmp_path) == [0, 0]
    assert "going on after step" in (found / "log.txt").read_text()
    assert weights(found) == weights(only_run(whole))
    assert results(found)["scores"] == results(only_run(whole))["scores"]


@pytest.mark.slow
def test_torchrun(whole: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    done = subprocess.run(
        [*torchrun, "-m", "lifelong_ct.cli.main", "train", *TINY, *places(tmp_path), *TWO],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert weights(only_run(tmp_path)) == weights(only_run(whole))
