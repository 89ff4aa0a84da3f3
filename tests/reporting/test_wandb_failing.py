"""W&B that fails, hangs or is out of reach: the run goes on, its files are whole, and what was not sent is counted."""

import os
import signal
import threading
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from offline import read_offline, services
from PIL import Image
from safetensors.numpy import load_file, save_file

from lifelong_ct.reporting import wandb_service
from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.run_folder import RunFolder, read_run
from lifelong_ct.reporting.wandb import LONGER, WandB

NEVER = threading.Event()


class FakeRun:
    """Remembers what it is told; from the `hangs_after`-th row on it never answers."""

    def __init__(self, folder: Path, hangs_after: int | None) -> None:
        self.folder, self.hangs_after = folder, hangs_after
        self.rows: list[dict[str, Any]] = []
        self.used: list[Any] = []
        self.logged: list[Any] = []
        self.summary: dict[str, Any] = {}
        self.finished = False
        self.settings = SimpleNamespace(log_dir=str(folder / "logs"), sync_file=str(folder / "none.wandb"))

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def log(self, row: dict[str, Any], step: int) -> None:
        if len(self.rows) == self.hangs_after:
            NEVER.wait()
        self.rows.append(row)

    def use_artifact(self, artifact: Any) -> None:
        self.used.append(artifact)

    def log_artifact(self, artifact: Any) -> None:
        self.logged.append(artifact)
        self.weights = [load_file(entry.local_path) for entry in artifact.manifest.entries.values()]

    def finish(self, exit_code: int) -> None:
        if self.hangs_after == -1:
            NEVER.wait()
        self.finished = True


class FakeClient:
    """In the place of the module wandb; what makes tables, images and artifacts is the real one."""

    def __init__(self, folder: Path, hangs_after: int | None = None) -> None:
        import wandb

        self.Table, self.Image, self.Artifact = wandb.Table, wandb.Image, wandb.Artifact
        self.run_made, self.run = FakeRun(folder, hangs_after), None

    def Settings(self, **given: Any) -> Any:
        return given

    def setup(self, *_: Any) -> None: ...

    def teardown(self) -> None: ...

    def init(self, **_: Any) -> FakeRun:
        return self.run_made


@pytest.fixture
def fake(monkeypatch, tmp_path: Path):
    def make(hangs_after: int | None = None) -> FakeRun:
        client = FakeClient(tmp_path / "fake", hangs_after)
        monkeypatch.setattr(wandb_service, "client", lambda mode: client)
        return client.run_made

    return make


@pytest.mark.parametrize("hangs_after", [0, 7])
def test_a_call_that_hangs_costs_the_copy_only(hangs_after: int, fake, tmp_path: Path, made_up) -> None:
    fake(hangs_after)
    run = made_up()
    reporters = Reporters([RunFolder(tmp_path, str), WandB(tmp_path, str, mode="offline", timeout=0.2)])
    run.play(reporters)
    assert reporters.failures["WandB"].startswith("TimeoutError: no answer within 0.2 s")
    # 15 steps and 4 evaluations, of which nothing is in a file of W&B
    assert reporters.unsent["WandB"] == {"step": 15, "evaluated": 4, "run_ended": 1}
    assert "WandB was not sent 4 × evaluated, 1 × run_ended, 15 × step" in (tmp_path / "log.txt").read_text()
    assert read_run(tmp_path).results["summary"]["acc"] == pytest.approx(0.7)
    assert len(read_run(tmp_path).steps) == 15


@pytest.mark.parametrize("ours", ["matrix_heatmap", "png", "scalars", "redacted", "WandB._table"])
def test_our_own_work_is_no_delay_of_wandb(ours: str, fake, tmp_path: Path, made_up, monkeypatch) -> None:
    """However long it takes: it is not done by the thread that W&B's timeout ends."""
    told, threads, place = fake(), set(), f"lifelong_ct.reporting.wandb.{ours}"
    work = resolve_name(place.replace("wandb.", "wandb:"))

    def watched(*given: Any, **options: Any) -> Any:
        threads.add(threading.current_thread())
        return work(*given, **options)

    monkeypatch.setattr(place, watched)
    made_up().play(WandB(tmp_path, str, mode="offline"))
    assert threads == {threading.current_thread()}
    assert sum("matrix/heatmap" in row for row in told.rows) == 4


def test_an_end_that_hangs_is_waited_for_so_long_and_no_longer(fake, tmp_path: Path, made_up) -> None:
    fake(-1)
    reporter, run = WandB(tmp_path, str, mode="offline"), made_up()
    reporters = Reporters([RunFolder(tmp_path, str), reporter])
    run.start(reporters)
    reporter.timeout = 0.1
    run.end(reporters)
    assert reporters.failures == {"WandB": "TimeoutError: no answer within 0.5 s"}
    assert "run finished" in (tmp_path / "log.txt").read_text()


def test_a_start_that_comes_too_late_ends_its_service(fake, tmp_path: Path, made_up, monkeypatch) -> None:
    """Else nobody would, and the end of the process waits for it."""
    made, late, killed = fake(), threading.Event(), threading.Semaphore(0)
    client = wandb_service.client("offline")
    client.init = lambda **_: late.wait() and made
    monkeypatch.setattr(wandb_service, "kill", lambda wandb: killed.release())
    reporters = Reporters([RunFolder(tmp_path, str), WandB(tmp_path, str, mode="offline", timeout=0.1)])
    made_up().start(reporters)
    assert list(reporters.failures) == ["WandB"]
    assert killed.acquire(timeout=30)  # at once, whatever is there
    late.set()
    assert killed.acquire(timeout=30)  # and by the start itself


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_service_that_is_stopped_is_killed(tmp_path: Path, made_up, monkeypatch) -> None:
    """Else the end of the process waits for it without end."""
    reporter = WandB(tmp_path, str, mode="offline")
    reporters, run = Reporters([RunFolder(tmp_path, str), reporter]), made_up()
    run.start(reporters)
    (pid,) = services(os.getpid())
    os.kill(pid, signal.SIGSTOP)
    reporter.timeout = 0.3
    monkeypatch.setattr(wandb_service, "ENDING", 0.3)
    for after in (1, 2, 3):
        run.experience(reporters, after)
    run.end(reporters)
    assert list(reporters.failures) == ["WandB"]
    assert "was not sent" in (tmp_path / "log.txt").read_text()
    assert services(os.getpid()) == []
    made_up().play(WandB(tmp_path / "next", str, mode="offline"))  # and the next run has one that answers
    assert read_offline(tmp_path / "next")["summary"]["status"] == "finished"


def test_out_of_reach_it_writes_offline(tmp_path: Path, made_up, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setitem(LONGER, "run_started", 60)  # offline, after it, on a busy machine too
    reporter, run = WandB(tmp_path, str, timeout=2.0), made_up()
    reporters = Reporters([RunFolder(tmp_path, str), reporter])
    run.start(reporters)
    reporter.timeout = 60.0
    run.end(reporters)
    assert reporters.failures == {}
    assert "W&B cannot be reached and writes offline" in (tmp_path / "log.txt").read_text()
    assert read_offline(tmp_path)["summary"]["summary/acc"] == pytest.approx(0.7)


def test_overlays_leave_only_where_they_are_asked_for(fake, tmp_path: Path, made_up) -> None:
    (tmp_path / "overlays").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "overlays" / "0a1b-axial.png")
    for images in (False, True):
        told, run, reporter = fake(), made_up(), WandB(tmp_path, str, mode="offline", images=images)
        run.start(reporter)
        run.end(reporter)
        assert any("overlays" in row for row in told.rows) == images
    (row,) = (row for row in told.rows if "overlays" in row)
    assert [image._caption for image in row["overlays"]] == ["0a1b-axial"]


HOSPITALS = [{"name": "a", "layout": "nnunet", "root": "<root>", "test": "<3 entries>"}, {"name": "b"}]


def test_online_the_lineage_holds_no_patient(fake, tmp_path: Path, made_up) -> None:
    told, folder = fake(), tmp_path / "checkpoints" / "after_003"
    folder.mkdir(parents=True)
    tensors = {
        "00000/learner/model/head.bias": np.arange(3, dtype=np.float32),
        "00001/learner/optimizer/state/0/exp_avg": np.ones(3, np.float32),
        "00002/strategy/0/memory/rows/0/x": np.ones(8, np.int16),
    }
    save_file(tensors, str(folder / "tensors.safetensors"))
    config = {"stream": {"hospitals": HOSPITALS, "common": {"sharing": "patches"}}}
    run, reporter = made_up(config=config), WandB(tmp_path, str, mode="online")
    run.start(reporter)
    run.end(reporter)
    assert [(a.type, a.name) for a in told.used] == [("dataset", f"hospital-{h}") for h in "abc"]
    assert told.used[0].metadata == {"name": "a", "layout": "nnunet", "sharing": "patches"}
    (model,) = told.logged
    assert (model.type, model.metadata["summary"]["acc"]) == ("model", pytest.approx(0.7))
    (weights,) = told.weights
    assert list(weights) == ["head.bias"]  # neither the optimizer nor the exemplars
    assert weights["head.bias"].tolist() == [0, 1, 2]


def test_an_artifact_that_is_not_taken_costs_no_curve(fake, tmp_path: Path, made_up, monkeypatch) -> None:
    told, run = fake(), made_up()
    monkeypatch.setattr(told, "use_artifact", lambda artifact: 1 / 0)
    reporters = Reporters([RunFolder(tmp_path, str), WandB(tmp_path, str, mode="online")])
    run.start(reporters)
    run.experience(reporters, 1)
    assert reporters.failures == {}
    assert sum("train/loss" in row for row in told.rows) == 5
    assert "W&B has not taken an artifact: ZeroDivisionError" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(("mode", "artifacts"), [("offline", True), ("online", False)])
def test_without_leave_there_are_no_artifacts(
    mode: str, artifacts: bool, fake, tmp_path: Path, made_up
) -> None:
    told, run, reporter = fake(), made_up(), WandB(tmp_path, str, mode=mode, artifacts=artifacts)
    run.start(reporter)
    run.end(reporter)
    assert (told.used, told.logged) == ([], [])
    assert told.finished
