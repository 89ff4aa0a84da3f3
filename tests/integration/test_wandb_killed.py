"""Somebody kills the service of W&B in the middle of a run, from outside."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from offline import services
from whole_runs import TINY, only_run, places, results

from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.train_log import read_train_csv
from lifelong_ct.reporting.wandb_file import keys

STEPS = 20
CODE = "import sys; from lifelong_ct.cli.main import main; sys.exit(main(sys.argv[1:]))"


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not what():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def logged(folder: Path, text: str) -> bool:
    return any(text in file.read_text() for file in folder.glob("runs/*/log.txt"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_run_ends_its_files_are_whole_and_it_says_what_was_not_sent(
    how: signal.Signals, tmp_path: Path
) -> None:
    # a service that was stopped is waited for at the end, five times `timeout`
    wandb = ["reporter.wandb.enabled=true", "reporter.wandb.mode=offline", "reporter.wandb.timeout=10"]
    command = [sys.executable, "-c", CODE, *TINY, *places(tmp_path), f"stream.steps={STEPS}", *wandb]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for(lambda: logged(tmp_path, "experience 1 of 2 ended"), process)
        (victim,) = services(process.pid)
        os.kill(victim, how)
        told, _ = process.communicate(timeout=900)
    assert process.returncode == 0, told
    run = only_run(tmp_path)
    assert results(run)["status"] == "finished"
    assert len(read_train_csv(run / "train.csv")) == 2 * STEPS
    assert ResultMatrix.read_cases_csv(run / "cases.csv").last == 2
    assert "permuted" in (run / "report.html").read_text()
    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    for text in (told, (run / "log.txt").read_text()):
        assert "WandB failed at" in text
        line = re.search(r"WandB was not sent (.+);", text)
        assert line
        unsent = {kind: int(n) for n, kind in re.findall(r"(\d+) × (\w+)", line[1])}
        assert unsent["step"] + keys(file)["train/loss"] == 2 * STEPS
        assert unsent["evaluated"] + keys(file)["cl/after"] == 3
    assert not Path(f"/proc/{victim}").exists()
