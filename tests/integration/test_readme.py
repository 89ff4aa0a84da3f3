"""Every command of the README does what it says, here in its smallest form."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import scans
import yaml

from lifelong_ct.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()
NOT_RUN = {
    "make demo": "it installs and trains for minutes",
    "make test": "it runs these tests",
    "source .venv/bin/activate": "these tests run inside it",
}
OWN_OUTPUT = {
    "--help": "replay",
    "verify": "no problem found",
    "ingest": "compressed",
    "plan": "optimizer steps",
    "doctor": "torch",
    "report": "report/comparison.html",
}
"""What the verbs that train nothing print."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def lines() -> list[str]:
    found = (line.split(" #")[0].strip() for block in blocks("bash") for line in block.splitlines())
    return [line for line in found if line]


COMMANDS = [line for line in lines() if line.startswith("lifelong-ct ")]


def test_every_line_is_run_or_excused() -> None:
    assert set(lines()) == set(COMMANDS) | set(NOT_RUN)
    assert len(COMMANDS) >= 9


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the README's hospital, and its stream in `myconf` made from `real_ct.yaml`."""
    folder = tmp_path_factory.mktemp("readme")
    (manifest,) = map(json.loads, blocks("json"))
    (row,) = manifest["cases"]
    scans.write(folder / "north", {"train": row, "test": scans.entry("a2", "test")})
    (folder / "north" / "manifest.json").write_text(json.dumps(manifest))
    stream: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "stream" / "real_ct.yaml").read_text())
    del stream["defaults"]
    stream["hospitals"] = [
        {"name": "north", "layout": "manifest", "root": "north", "manifest": "manifest.json"}
    ]
    (folder / "myconf" / "stream").mkdir(parents=True)
    (folder / "myconf" / "stream" / "mine.yaml").write_text(yaml.safe_dump(stream | {"name": "mine"}))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(place)
    _, *args = shlex.split(command)
    small = [] if args[0] in ("--help", "doctor") else ["debug=tiny", "reporter.wandb.enabled=false"]
    if small and "stream=mine" not in args:
        small += ["stream.common.shape=[32,32,32]"]
    code = main([*args, *small])
    told = capsys.readouterr().out
    assert code in ((0, 2) if args[0] == "doctor" else (0,))  # 2: this machine has little free disk
    if args[0] in OWN_OUTPUT:
        assert OWN_OUTPUT[args[0]] in told
        return
    wanted = dict(arg.split("=") for arg in args if "=" in arg)
    names = [
        f"runs/{wanted.get('stream', 'phantom')}-{strategy}-s{seed}-*/results.json"
        for strategy in wanted["strategy"].split(",")
        for seed in wanted.get("seed", "0").split(",")
    ]
    for name in names:
        (file,) = place.glob(name)
        assert json.loads(file.read_text())["status"] == "finished"
        assert (file.parent / "report.html").exists()


def test_what_a_run_leaves_is_there(place: Path) -> None:
    """After the commands above, in the order of the README."""
    found = re.search(r"## What a run leaves\n(.*?) in\n", TEXT, re.DOTALL)
    assert found
    folders = sorted(path.parent for path in place.glob("runs/phantom_demo-*/results.json"))
    if not folders:
        pytest.skip("no command was run")
    for name in re.findall(r"`([^`]+)`", found[1]):
        assert all((folder / name).exists() for folder in folders), name
