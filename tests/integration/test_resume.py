"""The same seed gives the same run, whatever interrupted it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from whole_runs import TINY, only_run, places, results, run, run_fresh, weights

STRATEGIES = ("naive", "joint", "replay", "ewc", "lwf")
QUIET = ("reporter=quiet", "reporter.html=false")


def outcome(folder: Path, strategy: str) -> tuple[object, ...]:
    found = only_run(folder, f"*-{strategy}-*")
    document = results(found)
    assert document["status"] == "finished"
    return document["scores"], document["summary"], (found / "cases.csv").read_bytes(), weights(found)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, f"strategy={','.join(STRATEGIES)}", "-m", *QUIET) == 0
    return folder


def test_stopped_after_an_experience_and_started_in_a_fresh_process(whole: Path, tmp_path: Path) -> None:
    """Joint training has one experience only: it ends at once and is left alone."""
    sweep = (f"strategy={','.join(STRATEGIES)}", "-m", *QUIET)
    assert run(tmp_path, "trainer.stop_after=1", *sweep) == 0
    half = [results(only_run(tmp_path, f"*-{s}-*"))["status"] for s in STRATEGIES]
    assert half == ["stopped", "finished", "stopped", "stopped", "stopped"]
    done = run_fresh(tmp_path, *sweep)
    assert done.returncode == 0, done.stderr
    for strategy in STRATEGIES:
        assert outcome(tmp_path, strategy) == outcome(whole, strategy), strategy


def test_twice_the_same_seed_and_once_another(whole: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "strategy=replay", *QUIET) == 0
    assert outcome(tmp_path, "replay") == outcome(whole, "replay")
    assert run(tmp_path / "other", "strategy=replay", "seed=1", *QUIET) == 0
    assert weights(only_run(tmp_path / "other")) != weights(only_run(whole, "*-replay-*"))


def test_killed_in_the_second_experience(whole: Path, tmp_path: Path) -> None:
    code = "import sys; from lifelong_ct.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *TINY, *places(tmp_path), "strategy=replay", *QUIET]
    process = subprocess.Popen(command, cwd=tmp_path)
    while not list(tmp_path.glob("runs/*/checkpoints/after_001")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(tmp_path, "strategy=replay", *QUIET) == 0
    assert outcome(tmp_path, "replay") == outcome(whole, "replay")


def test_a_damaged_checkpoint_is_passed_over(whole: Path, tmp_path: Path) -> None:
    args = ("strategy=ewc", *QUIET)
    assert run(tmp_path, "trainer.stop_after=1", *args) == 0
    (tensors,) = only_run(tmp_path).glob("checkpoints/after_001/*.safetensors")
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(bytes(data))
    assert run(tmp_path, *args) == 0
    assert "damaged" in (only_run(tmp_path) / "log.txt").read_text()
    assert outcome(tmp_path, "ewc") == outcome(whole, "ewc")
