import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from offline import read_offline, services

from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.html import HtmlReport
from lifelong_ct.reporting.run_folder import RunFolder, read_run, redacted
from lifelong_ct.reporting.scalars import scalars
from lifelong_ct.reporting.wandb import ROWS, WandB
from lifelong_ct.reporting.wandb_file import keys
from lifelong_ct.reporting.wandb_service import has_api_key


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no.netrc"))


def test_the_offline_file_holds_config_matrix_and_every_scalar(tmp_path: Path, made_up) -> None:
    run = made_up(config={"strategy": {"name": "naive", "plugins": []}, "seed": 0})
    run.play(WandB(tmp_path, str, group="sweep7"))
    read = read_offline(tmp_path)
    assert (read["run"].display_name, read["run"].run_group, read["run"].job_type) == (
        run.name,
        "sweep7",
        "train",
    )
    assert (read["run"].project, read["run"].host) == ("lifelong-ct", "-")
    assert {key: read["config"][key] for key in run.config} == run.config
    assert read["axes"] == {"train/*": "train/step", "cl/*": "cl/after", "matrix/*": "cl/after"}
    rows = {row["cl/after"]: row for row in read["history"] if "cl/after" in row}
    for after, scores in enumerate(run.dice):
        for hospital, score in zip("abcd", scores, strict=True):
            assert rows[after][f"cl/dice/{hospital}"] == pytest.approx(score)
    assert rows[3]["cl/bwt"] == pytest.approx(-0.2)
    assert not any(key.startswith("scores/") for key in read["summary"])
    for key, expected in scalars({**run.results("finished"), "scores": []}).items():
        assert read["summary"][key] == pytest.approx(expected), key


def test_curves_have_explicit_steps(tmp_path: Path, made_up) -> None:
    made_up().play(WandB(tmp_path, str))
    rows = [row for row in read_offline(tmp_path)["history"] if "train/loss" in row]
    assert [row["_step"] for row in rows] == list(range(1, 16))
    assert [row["train/experience"] for row in rows] == [1] * 5 + [2] * 5 + [3] * 5
    assert rows[7]["train/loss"] == pytest.approx(1 / 4)  # experience 2, third step


def tables(folder: Path) -> list[dict[str, Any]]:
    """As W&B shows them, in the order of experiences."""
    media = next((folder / "wandb").glob("offline-run-*")) / "files/media"
    found = [json.loads(file.read_text()) for file in media.glob("table/matrix/*.json")]
    return sorted(found, key=lambda table: table["data"][0][0])


def test_the_tables_are_the_matrix_and_the_heatmap_an_image(tmp_path: Path, made_up) -> None:
    run = made_up()
    run.play(WandB(tmp_path, str))
    media = next((tmp_path / "wandb").glob("offline-run-*")) / "files/media"
    found = tables(tmp_path)
    assert found[3]["columns"] == ["after", "hospital", "organ", "metric", "mean", "n"]
    for after, table in enumerate(found):
        assert {row[0] for row in table["data"]} == {after}
        assert len(table["data"]) == 4 * 3 * 2  # hospitals, two organs and their mean, two metrics
        means = [row[4] for row in table["data"] if row[2:4] == ["mean", "dice"]]
        assert means == pytest.approx(run.dice[after])
    assert len(list(media.glob("images/matrix/*.png"))) == 4


def test_where_a_table_would_be_cut_the_means_are_whole(tmp_path: Path, made_up, monkeypatch) -> None:
    monkeypatch.setattr("lifelong_ct.reporting.wandb.ROWS", 4 * 3 * 2 - 1)
    run = made_up()
    run.play(WandB(tmp_path, str))
    for after, table in enumerate(tables(tmp_path)):
        assert [row[2] for row in table["data"]] == ["mean"] * 4 * 2
        assert [row[4] for row in table["data"] if row[3] == "dice"] == pytest.approx(run.dice[after])


def test_a_table_of_so_many_rows_is_whole() -> None:
    import wandb

    assert wandb.Table.MAX_ROWS == ROWS


def test_a_resumed_run_goes_on_with_its_id_and_step(tmp_path: Path, made_up) -> None:
    run, first = made_up(), WandB(tmp_path / "first", str)
    run.start(first)
    run.experience(first, 1)
    state = json.loads(json.dumps(first.state_dict()))
    first.close("stopped")
    assert state["step"] == 5
    second = WandB(tmp_path / "second", str)
    second.load_state_dict(state)
    run.start(second, done=1)
    run.experience(second, 2)
    second.close("stopped")
    read = read_offline(tmp_path / "second")
    assert read["run"].run_id == state["run_id"]
    assert [row["_step"] for row in read["history"] if "train/loss" in row] == [6, 7, 8, 9, 10]


def test_what_is_private_is_in_no_file(tmp_path: Path, made_up, monkeypatch) -> None:
    def redact(text: str) -> str:
        return text.replace("CANARY", "<hidden>")

    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "create_connection", no_network)
    folder = tmp_path / "CANARY" / "run"
    run = made_up(config={"root": "/data/CANARY", "files": ["CANARY.nii.gz"]})
    reporters = Reporters([RunFolder(folder, redact), HtmlReport(folder), WandB(folder, redact)], redact)
    run.start(reporters)
    run.experience(reporters, 1)
    reporters.event("note", text="CANARY is odd")
    run.end(reporters, "failed", upto=1, error="cannot read /data/CANARY/CANARY.nii.gz")
    assert reporters.failures == {}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {".wandb", ".html", ".png", ".csv", ".json", ".yaml", ".txt"} <= {path.suffix for path in files}
    for file in files:
        assert b"CANARY" not in file.read_bytes(), file
        assert "CANARY" not in str(file.relative_to(folder))
    assert read_offline(folder)["summary"]["error"] == "cannot read /data/<hidden>/<hidden>.nii.gz"


def test_two_runs_of_one_process_stay_apart(tmp_path: Path, made_up) -> None:
    runs = [made_up(name=f"toy-naive-s{seed}-0000000{seed}", seed=seed) for seed in (1, 2)]
    for run in runs:
        run.play(WandB(tmp_path / run.name, str))
    assert [read_offline(tmp_path / run.name)["summary"]["run/seed"] for run in runs] == [1, 2]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_killed_service_costs_the_copy_only(tmp_path: Path, made_up) -> None:
    run, folder = made_up(), tmp_path / "first"
    reporters = Reporters([RunFolder(folder, str), WandB(folder, str)])
    run.start(reporters)
    run.experience(reporters, 1)
    for pid in services(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    run.experience(reporters, 2)
    run.experience(reporters, 3)
    run.end(reporters)
    assert list(reporters.failures) == ["WandB"]
    log, unsent = (folder / "log.txt").read_text(), reporters.unsent["WandB"]
    assert "WandB failed at" in log
    assert (
        f"WandB was not sent {unsent['evaluated']} × evaluated, 1 × run_ended, {unsent['step']} × step" in log
    )
    (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    assert keys(file)["train/loss"] + unsent["step"] == 15
    assert keys(file)["cl/after"] + unsent["evaluated"] == 3
    assert read_run(folder).results["summary"]["acc"] == pytest.approx(0.7)
    run.play(WandB(tmp_path / "second", str))  # the next run of the process has a service again
    assert read_offline(tmp_path / "second")["summary"]["status"] == "finished"


def test_a_run_that_never_began_is_no_run_of_wandb(tmp_path: Path, made_up) -> None:
    reporter = WandB(tmp_path, str)
    reporter.event("run_ended", status="failed", results={"run": {}}, matrix=None, error="x")
    reporter.close("failed")
    assert not (tmp_path / "wandb").exists()


def test_scalars_are_one_level_deep() -> None:
    results = {
        "status": "finished",
        "hospitals": ["a", "b"],
        "scores": [{"after": 1, "hospital": "a", "organ": "liver", "metric": "dice", "mean": 0.5, "n": 2}],
        "experiences": [{"after": 1, "hospital": "a", "steps": 5}],
        "summary": {"acc": 0.5, "bwt": None},
        "memory": {"ram": {"limit": None, "peak": 3}},
    }
    assert scalars(results) == {
        "status": "finished",
        "hospitals": "a, b",
        "scores/1/a/liver/dice/mean": 0.5,
        "scores/1/a/liver/dice/n": 2,
        "experiences/1/hospital": "a",
        "experiences/1/steps": 5,
        "summary/acc": 0.5,
        "memory/ram/peak": 3,
    }


def test_the_mode_follows_the_key(tmp_path: Path, monkeypatch) -> None:
    assert WandB(tmp_path, str).mode == "offline"
    netrc = tmp_path / "a.netrc"
    netrc.write_text("machine api.wandb.ai login user password 0123\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert has_api_key()
    assert WandB(tmp_path, str).mode == "online"
    assert WandB(tmp_path, str, mode="offline").mode == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.hospital.example")
    assert not has_api_key()
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert has_api_key()


def test_redaction_reaches_every_scalar(made_up) -> None:
    results = made_up().results("failed", error="DOE")
    assert scalars(redacted(results, lambda text: text.replace("DOE", "x")))["error"] == "x"


def test_wandb_is_imported_when_a_run_starts_and_not_before() -> None:
    import subprocess

    code = "import sys, lifelong_ct.reporting.build; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
