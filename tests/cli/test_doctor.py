"""What `doctor` finds on machines that are made up."""

import http.server
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lifelong_ct.cli import health
from lifelong_ct.cli.main import main

GIB = 1 << 30


def test_versions_are_held_against_what_our_package_declares(monkeypatch) -> None:
    declared = [
        "numpy",
        "torch>=999",
        "no-such-package<2",
        'gone; python_version < "3"',
        'odd-decoder; extra == "dicom"',
    ]
    monkeypatch.setattr(health, "requires", lambda name: declared)
    numpy, torch, missing, extra = health.packages()
    assert numpy.good
    assert (torch.good, torch.next) == (False, 'pip install "torch>=999"')
    assert torch.found.endswith("not torch>=999")
    assert (missing.good, missing.found) == (False, "missing, not no-such-package<2")
    assert extra == (True, "extra dicom", "without odd-decoder", 'pip install "lifelong-ct[dicom]"')


def test_this_environment_has_what_is_declared() -> None:
    assert [finding for finding in health.packages() if not finding.good] == []


@pytest.fixture
def machine(monkeypatch, tmp_path: Path):
    """A group `job` inside `slice`; files by name, total memory in bytes."""

    def make(files: dict[str, str], total: int) -> None:
        (tmp_path / "slice" / "job").mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / name).write_text(text + "\n")
        own = tmp_path / "own"
        own.write_text("0::/slice/job\n")
        monkeypatch.setattr(health, "CGROUP", tmp_path)
        monkeypatch.setattr(health, "OWN_GROUP", own)
        monkeypatch.setattr(health, "_total_memory", lambda: total)

    return make


def test_the_smallest_grant_around_the_process_counts(machine) -> None:
    machine(
        {
            "slice/job/memory.max": "max",
            "slice/memory.max": str(8 * GIB),
            "slice/job/cpu.max": "50000 100000",
        },
        64 * GIB,
    )
    processor, memory = health.host({"ram": "4GiB"})
    assert "0.5 of them granted" in processor.found
    assert (memory.good, memory.found) == (True, "64.0 GiB, 8.0 GiB granted")


def test_too_little_memory_names_what_fits(machine) -> None:
    machine({"slice/memory.max": str(5 * GIB)}, 64 * GIB)
    _, memory = health.host({"ram": "4GiB"})
    assert (memory.good, memory.next) == (
        False,
        "memory.ram=3072MiB or less",
    )  # 5 GiB but 2 for the libraries


def test_folders_that_cannot_be_written_or_are_full(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "a_file"
    file.touch()
    monkeypatch.setattr(health.shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * GIB))
    paths = {"store": tmp_path / "new" / "store", "runs": tmp_path, "state": file / "state"}
    store, runs, state = health.folders(paths, {"disk": "20GiB"})
    assert (store.good, store.found) == (False, "3.0 GiB free of 20.0 GiB wanted")
    assert "memory.disk=3072MiB" in store.next
    assert (runs.good, state.good) == (True, False)
    assert not (tmp_path / "new").exists()


def test_what_a_store_holds_is_part_of_its_limit(tmp_path: Path, monkeypatch) -> None:
    """18 of 20 GiB are there: the 3 GiB that are free are enough."""
    (tmp_path / "store" / "ab").mkdir(parents=True)
    with (tmp_path / "store" / "ab" / "ab12.lctvol").open("wb") as file:
        file.truncate(18 * GIB)
    monkeypatch.setattr(health.shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * GIB))
    paths = {"store": tmp_path / "store", "runs": tmp_path, "state": tmp_path}
    assert next(health.folders(paths, {"disk": "20GiB"})).good
    short = next(health.folders(paths, {"disk": "30GiB"}))
    assert (short.good, short.found) == (False, "3.0 GiB free of 12.0 GiB wanted")
    assert "memory.disk=21504MiB" in short.next  # 21 GiB


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None: ...


def test_wandb_off_offline_without_a_key_and_out_of_reach(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert health.wandb({"enabled": False}).found == "off"
    assert health.wandb({"enabled": True}).found == "offline, no API key"
    assert not health.wandb({"enabled": True, "mode": "online"}).good
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "does not answer" in health.wandb({"enabled": True}).found


def test_any_answer_of_wandb_will_do(monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        found = health.wandb({"enabled": True, "mode": "online"})
        server.shutdown()
    assert found == (True, "W&B", "online, it answers", "")


def card(name: str, major: int) -> Any:
    return SimpleNamespace(name=name, total_memory=80 * GIB, major=major)


def torch_with(cards: list[Any], cuda: str | None) -> Any:
    there = SimpleNamespace(
        is_available=lambda: bool(cards),
        device_count=lambda: len(cards),
        get_device_properties=lambda i: cards[i],
    )
    cudnn = SimpleNamespace(version=lambda: 91002)
    return SimpleNamespace(
        cuda=there, version=SimpleNamespace(cuda=cuda), backends=SimpleNamespace(cudnn=cudnn)
    )


@pytest.fixture
def driver(monkeypatch, tmp_path: Path) -> Path:
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23\n")
    monkeypatch.setattr(health, "DRIVER", file)
    return file


def test_cards_with_their_driver(driver: Path) -> None:
    cuda, new, old = health._cards(torch_with([card("H100", 9), card("V100", 7)], "12.8"))
    assert cuda.found == "torch for CUDA 12.8, driver 570.86.15, cuDNN 91002"
    assert new.found == "H100, 80.0 GiB, bf16"
    assert old.found == "V100, 80.0 GiB, no bf16"


def test_a_driver_that_torch_cannot_use_is_to_be_mended(driver: Path) -> None:
    (unused,) = health._cards(torch_with([], None))
    assert (unused.good, unused.next) == (False, "install torch for CUDA")
    driver.unlink()
    (none,) = health._cards(torch_with([], None))
    assert none.good


def test_json_says_the_same_as_the_exit_code(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(["doctor", "--json", "memory.disk=1MiB", "memory.ram=1MiB", "reporter.wandb.enabled=false"])
    told = json.loads(capsys.readouterr().out)
    assert (code == 0) == told["ok"]
    assert told["ok"] == all(row["good"] for row in told["found"])
    assert {"Python", "torch", "processor", "memory", "paths.store", "W&B", "configuration"} <= {
        row["what"] for row in told["found"]
    }
    assert list(tmp_path.iterdir()) == []


def test_it_knows_a_typo(capsys) -> None:
    assert main(["doctor", "strategy=replai"]) == 2
    assert "did you mean replay" in capsys.readouterr().err
