"""A mistake ends in one error that says what, where and how to mend it, and damages nothing."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import scans
from whole_runs import places

from lifelong_ct.cli.main import main
from lifelong_ct.data.sources import INDEX

QUIET = ("debug=tiny", "reporter=quiet", "reporter.html=false")


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != INDEX)  # an index may learn
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hospital and a finished run of it."""
    folder = tmp_path_factory.mktemp("world")
    scans.hospital(folder / "data")
    stream = scans.conf(folder / "conf", north={"root": str(folder / "data"), "manifest": "manifest.json"})
    assert main([*stream, *QUIET, *places(folder), f"paths.run={folder / 'finished'}"]) == 0
    return folder


@pytest.fixture
def told(world: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def tell(*args: str, hospital: Path | None = None) -> str:
        """Runs, checks what every mistake has in common, and gives the error."""
        root = hospital or world / "data"
        stream = scans.conf(
            (hospital or world).parent / "conf-of-test",
            north={"root": str(root), "manifest": "manifest.json"},
        )
        before = digests(world) | (digests(hospital) if hospital else {})
        capfd.readouterr()
        assert main([*stream, *QUIET, *places(world), *args]) == 2
        shown = capfd.readouterr()
        after = digests(world) | (digests(hospital) if hospital else {})
        assert {path: after.get(path) for path in before} == before
        assert "Traceback" not in shown.out + shown.err
        assert [shown.err.count(word) for word in ("error:", "where:", "fix:")] == [1, 1, 1]
        return shown.err

    return tell


def unknown_organ(root: Path) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["cases"][0]["organs"] = ["livr"]
    (root / "manifest.json").write_text(json.dumps(manifest))


def missing(root: Path) -> None:
    (root / "train-case/ct.nii.gz").unlink()


def other_shape(root: Path) -> None:
    raw = scans.drawn()[0]
    scans.save(raw.label[:-1], raw.affine, root / "train-case/seg.nii.gz")


def other_affine(root: Path) -> None:
    raw = scans.drawn()[0]
    moved = raw.affine.copy()
    moved[0, 3] += 40
    scans.save(raw.label, moved, root / "train-case/seg.nii.gz")


def truncated(root: Path) -> None:
    file = root / "train-case/ct.nii.gz"
    file.write_bytes(file.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (unknown_organ, ["livr", "liver", "north"]),
        (missing, ["does not exist", "check the path"]),
        (other_shape, ["(31, 32, 32)", "(32, 32, 32)", "resample"]),
        (other_affine, ["40.0 mm", "same geometry"]),
        (truncated, ["not whole", "copy it again"]),
    ],
)
def test_data(damage: Callable[[Path], None], words: list[str], tmp_path: Path, told) -> None:
    scans.hospital(tmp_path / "broken")
    damage(tmp_path / "broken")
    text = told(hospital=tmp_path / "broken")
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["strategy=nope"], ["nope", "replay", "naive"]),
        (["memory.ram=12 parsecs"], ["12 parsecs", "memory.ram", "512MiB"]),
        (["memory.disk=1KiB"], ["memory.disk", "raise memory.disk"]),
        (["seed=one"], ["one", "whole number"]),
        (["paths.data"], ["paths.data", "key=value"]),
    ],
)
def test_configuration(args: list[str], words: list[str], told) -> None:
    text = told(*args, "trainer.steps=4")
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("key", ["run", "runs", "store", "state"])
def test_a_file_where_a_folder_should_be(key: str, tmp_path: Path, told) -> None:
    (tmp_path / "taken").write_text("mine")
    assert "taken" not in told(f"paths.{key}={tmp_path / 'taken'}", "trainer.steps=5")
    assert (tmp_path / "taken").read_text() == "mine"


def test_the_run_folder_of_another_configuration(world: Path, told) -> None:
    text = told(f"paths.run={world / 'finished'}", "seed=5")
    assert "another paths.run" in text


def test_a_folder_that_holds_something_else(tmp_path: Path, told) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("mine")
    assert "no run folder" in told(f"paths.run={tmp_path / 'letters'}")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["dear.txt"]
