"""A patient's name in every place where a source can hold one reaches no file and no log of a run."""

import csv
import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import scans
from PIL import Image
from whole_runs import only_run, places, results

from lifelong_ct.cli.main import main
from lifelong_ct.core.types import Case
from lifelong_ct.data import loader
from lifelong_ct.data.layouts.manifest import ManifestLayout

NAME = re.compile(rb"zyxwvut|qponmlk", re.IGNORECASE)
ROWS = {
    "train": scans.entry(
        "ZYXWVUT-QPONMLK",
        "train",
        patient="Qponmlk^Zyxwvut",
        image="zyxwvut qponmlk/CT of Zyxwvut.nii.gz",
        label="labels/zyxwvutQponmlk_seg.nii.gz",
    ),
    "test": scans.entry(
        "zyxwvut_2",
        "test",
        patient="QPONMLK, Zyxwvut (2)",
        image="Qponmlk/2.nii.gz",
        label="Qponmlk/zyxwvut-2.nii",
    ),
}


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WANDB_MODE", "offline")
    root = tmp_path / "Zyxwvut_Qponmlk" / "scans"
    scans.write(root, ROWS)
    others = json.loads(
        json.dumps(ROWS).replace("wvut", "Wvut").replace("WVUT", "wVUT").replace("onmlk", "oNmlk")
    )
    scans.write(root.parent / "qponmlk zyxwvut", others)
    return root


def arguments(tmp_path: Path, root: Path) -> list[str]:
    one = {"root": str(root), "manifest": "manifest.json"}
    two = {"manifest": str(root.parent / "qponmlk zyxwvut" / "manifest.json")}
    stream = scans.conf(tmp_path / "conf", north=one, south=two)
    more = ["debug=tiny", "strategy=replay", "memory.exemplars=256KiB", "reporter.wandb.enabled=true"]
    return [*stream, *more, *places(tmp_path), f"paths.data={root}"]


def contents(path: Path) -> Iterator[bytes]:
    """What a file holds: as it is, decompressed, and the texts of a picture."""
    data = path.read_bytes()
    yield data
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        with Image.open(path) as image:
            yield repr(image.info).encode()
    for start in (match.start() for match in re.finditer(rb"\x78[\x01\x9c\xda]", data)):
        try:
            yield zlib.decompressobj().decompress(data[start:])
        except zlib.error:
            continue


def leaks(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        if NAME.search(str(path.relative_to(folder)).encode()):
            found.append(f"name of {path}")
        if path.is_file() and any(NAME.search(data) for data in contents(path)):
            found.append(str(path))
    return found


def told(capfd: pytest.CaptureFixture[str]) -> bytes:
    shown = capfd.readouterr()
    return (shown.out + shown.err).encode()


def test_the_search_finds_what_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"QPONMLK"))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", "a Zyxwvut " * 9)
    (tmp_path / "c.bin").write_bytes(b"..." + zlib.compress(b"zyxwvut" * 9))
    (tmp_path / "zyxWVUT").mkdir()
    assert len(leaks(tmp_path)) == 4


def test_a_run_to_its_report(hospital: Path, tmp_path: Path, capfd) -> None:
    args = arguments(tmp_path, hospital)
    assert main(args) == 0
    assert main(args) == 0, "finished already"
    assert main(["report", *args]) == 0
    assert not NAME.search(told(capfd))
    folder = only_run(tmp_path)
    assert results(folder)["status"] == "finished"
    kinds = {path.suffix for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert {".wandb", ".html", ".png", ".csv", ".json", ".yaml", ".txt", ".safetensors"} <= kinds
    assert leaks(tmp_path / "runs") == []


def truncated(root: Path) -> None:
    file = root / ROWS["train"]["image"]
    file.write_bytes(file.read_bytes()[:3000])


def truncated_test_case(root: Path) -> None:
    file = root / ROWS["test"]["label"]
    file.write_bytes(file.read_bytes()[:3000])


def missing(root: Path) -> None:
    (root / ROWS["train"]["label"]).unlink()


def unknown_organ(root: Path) -> None:
    file = root / "manifest.json"
    file.write_text(file.read_text().replace('"organs": ["liver"', '"organs": ["livr"', 1))


def no_manifest(root: Path) -> None:
    (root / "manifest.json").write_text("{")


@pytest.mark.parametrize("damage", [truncated, truncated_test_case, missing, unknown_organ, no_manifest])
def test_an_error_about_a_case(damage: Callable[[Path], None], hospital: Path, tmp_path: Path, capfd) -> None:
    damage(hospital)
    args = arguments(tmp_path, hospital)
    assert main(args) == 2
    shown = told(capfd)
    assert b"where:" in shown
    assert not NAME.search(shown)
    assert results(only_run(tmp_path))["status"] == "failed"
    assert leaks(tmp_path / "runs") == []


def crash(layout: ManifestLayout, case: Case) -> None:
    assert case.image is not None
    names = (case.id, case.patient, case.image.name, case.image.parent.name, case.image.stem)
    raise RuntimeError(f"bug in {case.image}, {case!r}: {names}, <{case.label}>")


def test_a_crash(hospital: Path, tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.setattr(ManifestLayout, "load", crash)
    assert main(arguments(tmp_path, hospital)) == 1
    shown = told(capfd)
    assert b"RuntimeError: bug in" in shown
    assert not NAME.search(shown)
    assert "bug in" in results(only_run(tmp_path))["error"]
    assert leaks(tmp_path / "runs") == []


def test_a_crash_while_the_hospital_is_indexed(hospital: Path, tmp_path: Path, capfd, monkeypatch) -> None:
    def inspect(layout: ManifestLayout) -> Iterator[Case]:
        raise RuntimeError(f"bug at {layout.root}: {layout.rows}")

    monkeypatch.setattr(ManifestLayout, "inspect", inspect)
    assert main(arguments(tmp_path, hospital)) != 0
    shown = told(capfd)
    assert b"bug at" in shown
    assert not NAME.search(shown)
    assert leaks(tmp_path / "runs") == []


def test_a_failed_job_of_a_sweep(hospital: Path, tmp_path: Path, capfd) -> None:
    truncated(hospital)
    assert main([*arguments(tmp_path, hospital), "-m"]) == 1
    shown = told(capfd)
    assert b"failed: " in shown
    assert not NAME.search(shown)
    assert leaks(tmp_path / "runs") == []


@pytest.mark.parametrize("verb", ["plan", "verify", "ingest"])
@pytest.mark.parametrize("damage", [truncated, missing])
def test_logs_of_other_verbs(verb: str, damage, hospital: Path, tmp_path: Path, capfd) -> None:
    damage(hospital)
    main([verb, *arguments(tmp_path, hospital)])
    shown = told(capfd)
    assert shown
    assert not NAME.search(shown)


def test_a_prediction_that_fails(hospital: Path, tmp_path: Path, capfd) -> None:
    args = arguments(tmp_path, hospital)
    assert main([*args, "trainer.stop_after=1", "evaluation.schedule=final", "reporter=quiet"]) == 0
    truncated(hospital)
    scan, run = hospital / ROWS["train"]["image"], only_run(tmp_path)
    capfd.readouterr()
    assert main(["predict", f"from={run}", f"in={scan}", f"out={tmp_path / 'Qponmlk'}", *args]) == 2
    shown = told(capfd)
    assert b"not whole" in shown
    assert not NAME.search(shown)


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names with accents, apostrophes and brackets; a manifest, a folder of configurations and the parent of
    `paths.runs` that are named after patients."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    top = tmp_path / "Frau Qponmlk's Ordner"
    rows = {
        "train": scans.entry(
            "ZYXWVUT Qponmlk",
            "train",
            patient="Źyxwvut, Zyxwvut (O'Qponmlk)",
            image="zyxwvut o'qponmlk/Źyxwvut CT.nii.gz",
            label="seg/ŹYXWVUT_seg.nii.gz",
        ),
        "test": scans.entry(
            "zyxwvut_2",
            "test",
            patient="QPONMLK^Zyxwvut^^Dr.",
            image="Qponmlk Zyxwvut/Qponmlk [1] #2.nii.gz",
            label="Qponmlk Zyxwvut/label (Zyxwvut).nii",
        ),
    }
    scans.write(top / "scans", rows)
    labels = ";".join(f"{organ}={i}" for i, organ in enumerate(scans.ORGANS, start=1))
    with open(top / "scans" / "qponmlk.csv", "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, [*rows["train"], "labels"])
        writer.writeheader()
        writer.writerows(
            {**row, "organs": ";".join(row["organs"]), "labels": labels} for row in rows.values()
        )
    stream = scans.conf(top / "conf Zyxwvut", north={"root": str(top / "scans"), "manifest": "qponmlk.csv"})
    places = [f'paths.{name}="{top / name}"' for name in ("runs", "state", "store")]
    wandb = ["reporter.wandb.enabled=true", "strategy=replay", "memory.exemplars=256KiB"]
    return [*stream, "debug=tiny", *wandb, *places]


def test_odd_names_in_odd_places(odd: list[str], tmp_path: Path, capfd) -> None:
    assert main(odd) == 0
    assert main(odd) == 0, "finished already"
    assert main(["report", *odd]) == 0
    assert not NAME.search(told(capfd))
    top = tmp_path / "Frau Qponmlk's Ordner"
    assert leaks(top / "runs") == leaks(top / "store") == []


def test_a_crash_in_a_thread_that_spells_names_anew(
    odd: list[str], tmp_path: Path, capfd, monkeypatch
) -> None:
    found: list[Case] = []
    load = ManifestLayout.load
    monkeypatch.setattr(ManifestLayout, "load", lambda self, case: found.append(case) or load(self, case))

    def crash(*args: object) -> None:
        names = [str(found[0].image), found[0].patient, found[0].id]
        spelt = [way(name) for name in names for way in (str, str.upper, str.lower, ascii, repr)]
        raise RuntimeError(f"bug in {spelt}; {found[0]}; {'; '.join(spelt)}")

    monkeypatch.setattr(loader, "read_patch", crash)
    assert main(odd) == 1
    shown = told(capfd)
    assert b"RuntimeError: bug in" in shown
    assert not NAME.search(shown)
    assert leaks(tmp_path / "Frau Qponmlk's Ordner" / "runs") == []
