"""Every command of the README and of the guide does what it says, here in its smallest form.

A line that ends with `# not run: why` is excused. A block of YAML that begins with `# some/path.yaml`, or of JSON that names
a hospital, becomes the file that it describes.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import planned
import pytest
import scans
import yaml

from lifelong_ct.cli.main import main
from lifelong_ct.data.layouts.phantom import PhantomLayout

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = {page: page.read_text() for page in PAGES if "_build" not in page.parts}
README = TEXT[ROOT / "README.md"]
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
    "evaluate": "mean",
    "predict": "volumes.csv",
    "compare": "acceptance.json",
}
"""What the verbs that train nothing print."""
BARE = ("--help", "doctor", "compare")
"""Verbs that need no smallest form."""
MAY_SAY_NO = ("doctor", "compare")
"""This machine has little free disk; so few patients decide nothing."""


def blocks(text: str, language: str) -> list[str]:
    """Also those in lists."""
    return re.findall(rf"^[ \d.]*```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def lines() -> list[str]:
    """Of all pages, once each, without comments and without those that are excused."""
    written = [
        line for text in TEXT.values() for block in blocks(text, "bash") for line in block.splitlines()
    ]
    kept = (re.split(r"\s#", line)[0].strip() for line in written if "# not run: " not in line)
    return [line for line in dict.fromkeys(kept) if line and line not in NOT_RUN]


COMMANDS = [line for line in lines() if re.match(r"(\w+=\S+ )*lifelong-ct ", line)]


def test_every_line_is_run_or_excused() -> None:
    assert lines() == COMMANDS
    assert len(COMMANDS) >= 20


def test_every_page_of_the_guide_is_in_its_contents() -> None:
    shown = re.findall(r"^guide/(\w+)$", TEXT[ROOT / "docs" / "index.md"], re.MULTILINE)
    assert sorted(shown) == sorted(page.stem for page in TEXT if page.parent.name == "guide")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the hospitals and files of the pages, and the README's stream made from `real_ct.yaml`."""
    folder = tmp_path_factory.mktemp("pages")
    for text in TEXT.values():
        for content in map(json.loads, blocks(text, "json")):
            if "hospital" in content:
                write_hospital(folder / content["hospital"], content)
        for block in blocks(text, "yaml"):
            if named := re.match(r"# (\S+\.yaml)\n", block):
                (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
                (folder / named[1]).write_text(block)
    trained = yaml.safe_load((folder / "myconf" / "model" / "trained.yaml").read_text())
    planned.write(
        (folder / trained["plans"]).parent, planned.plans(lambda own: own.update(spacing=[3.0] * 3))
    )
    (folder / trained["weights"]).parent.mkdir()
    (folder / trained["plans"]).with_name("checkpoint_final.pth").rename(folder / trained["weights"])
    stream: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "stream" / "real_ct.yaml").read_text())
    del stream["defaults"]
    stream["hospitals"] = [
        {"name": "north", "layout": "manifest", "root": "north", "manifest": "manifest.json"}
    ]
    (folder / "myconf" / "stream" / "mine.yaml").write_text(yaml.safe_dump(stream | {"name": "mine"}))
    return folder


def write_hospital(root: Path, manifest: dict[str, Any]) -> None:
    """The scan that a manifest names, and one to test on; other patients at each hospital."""
    (row,) = manifest["cases"]
    test = scans.entry(f"{row['id']}t", "test")
    drawn = PhantomLayout(root.name, train=1, test=1, shape=(32, 32, 32), organs=scans.ORGANS)
    for case, raw in zip((row, test), map(drawn.load, drawn.cases()), strict=True):
        scans.save(raw.image, raw.affine, root / case["image"])
        scans.save(raw.label, raw.affine, root / case["label"])
    (root / "manifest.json").write_text(json.dumps({**manifest, "cases": [row, test]}))


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("WANDB_MODE", "offline")
    variables, _, rest = command.partition("lifelong-ct ")
    for name, value in wanted(variables.split()).items():
        monkeypatch.setenv(name, value)
    args = shlex.split(rest)
    code = main([*args, *smallest(args)])
    told = capsys.readouterr().out
    assert code in ((0, 2) if args[0] in MAY_SAY_NO else (0,))
    if "--cfg" in args:
        assert yaml.safe_load(told)["strategy"]["name"] == wanted(args)["strategy"]
    elif args[0] in OWN_OUTPUT:
        assert OWN_OUTPUT[args[0]] in told
    else:
        check_runs(place, wanted(args))


def smallest(args: list[str]) -> list[str]:
    if args[0] in BARE:
        return []
    small = ["debug=tiny"]
    if not any(arg.startswith("reporter.wandb.enabled=") for arg in args):
        small.append("reporter.wandb.enabled=false")
    own = {"stream=mine", "stream=ours", "stream=after_nnunet"} & set(args)
    return small if own or args[0] == "predict" else [*small, "stream.common.shape=[32,32,32]"]


def wanted(args: list[str]) -> dict[str, str]:
    return dict(arg.split("=", 1) for arg in args if "=" in arg)


def check_runs(place: Path, given: dict[str, str]) -> None:
    """The folders that a command of `train` leaves."""
    names = [
        given.get("paths.run") or f"runs/{given.get('stream', 'phantom')}-{strategy}-s{seed}-*"
        for strategy in given.get("strategy", "naive").split(",")
        for seed in given.get("seed", "0").split(",")
    ]
    status = "stopped" if "trainer.stop_after" in given else "finished"
    for name in names:
        file = max(place.glob(f"{name}/results.json"), key=lambda path: path.stat().st_mtime)
        assert json.loads(file.read_text())["status"] == status
        assert (file.parent / "report.html").exists()
        assert (file.parent / "tensorboard").exists() == (given.get("reporter") == "tensorboard")


def test_what_a_run_leaves_is_there(place: Path) -> None:
    """After the commands above, in the order of the README."""
    found = re.search(r"## What a run leaves\n(.*?) in\n", README, re.DOTALL)
    assert found
    folders = sorted(path.parent for path in place.glob("runs/phantom_demo-*/results.json"))
    if not folders:
        pytest.skip("no command was run")
    for name in re.findall(r"`([^`]+)`", found[1]):
        assert all((folder / name).exists() for folder in folders), name
