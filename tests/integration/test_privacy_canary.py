"""A patient's name in every place where a source can hold one reaches no file and no log of a run."""

import csv
import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
        return  # a ramp of grey values, 122, 121, …, reads zyx
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
    (image,) = case.images
    names = (case.id, case.patient, image.name, image.parent.name, image.stem)
    raise RuntimeError(f"bug in {image}, {case!r}: {names}, <{case.label}>")


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


FOLDERS = {"train": "Zyxwvut Qponmlk 1", "test": "QPONMLK,Zyxwvut"}


def folders(tmp_path: Path) -> list[str]:
    """A hospital of a folder per case, named after its patient; arguments of a run on it."""
    data = tmp_path / "zyxwvut" / "Atlas of Qponmlk"
    for name, raw in zip(FOLDERS.values(), scans.drawn(), strict=True):
        scans.save(raw.image, raw.affine, data / name / "ct.nii.gz")
        for i, organ in enumerate(scans.ORGANS, start=1):
            scans.save(
                (raw.label == i).astype("uint8"),
                raw.affine,
                data / name / "segmentations" / f"{organ}.nii.gz",
            )
    return arguments_for(tmp_path, {"version": "1.0"})


def test_a_run_on_folders_named_after_patients(tmp_path: Path, capfd) -> None:
    args = folders(tmp_path)
    assert main(args) == 0
    assert main([*args, f"stream.hospitals.0.test=['{FOLDERS['train']}']"]) == 0
    assert not NAME.search(told(capfd))
    assert leaks(tmp_path / "runs") == []


def lacks_a_mask(folder: Path) -> dict[str, Any]:
    (folder / FOLDERS["train"] / "segmentations" / "liver.nii.gz").unlink()
    return {}


def lacks_a_scan(folder: Path) -> dict[str, Any]:
    (folder / FOLDERS["test"] / "ct.nii.gz").unlink()
    return {}


def cut_off(folder: Path) -> dict[str, Any]:
    file = folder / FOLDERS["train"] / "ct.nii.gz"
    file.write_bytes(file.read_bytes()[:900])
    return {}


def other_case(_: Path) -> dict[str, Any]:
    return {"test": ["Zyxwvut^3", "qponmlk*"]}


def torn_patient(_: Path) -> dict[str, Any]:
    return {"patients": dict.fromkeys(FOLDERS.values(), "Qponmlk^Zyxwvut")}


def untold_patient(folder: Path) -> dict[str, Any]:
    (folder / "qponmlk.json").write_text(json.dumps({FOLDERS["test"]: "zyxwvut"}))
    return {"patients": "qponmlk.json"}


def no_split(_: Path) -> dict[str, Any]:
    return {"test": "zyxwvut.txt"}


def other_root(folder: Path) -> dict[str, Any]:
    return {"root": str(folder.parent)}


def other_layout(_: Path) -> dict[str, Any]:
    return {"layout": "nnunet", "version": None}


def a_table(folder: Path) -> dict[str, Any]:
    (folder / "meta.csv").write_text(f"image_id;split\n{FOLDERS['train']};train\nZyxwvut^9;test\n")
    return {"layout": "total_segmentator", "test": None}


def a_task(folder: Path) -> dict[str, Any]:
    rows = [{"image": f"{name}/ct.nii.gz", "label": f"{name}/seg.nii.gz"} for name in FOLDERS.values()]
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "spleen"}}
    (folder / "dataset.json").write_text(json.dumps({**content, "training": rows}))
    return {"layout": "msd", "test": []}


DAMAGES = (
    lacks_a_mask,
    lacks_a_scan,
    cut_off,
    other_case,
    torn_patient,
    untold_patient,
    no_split,
    other_root,
)


@pytest.mark.parametrize("damage", [*DAMAGES, other_layout, a_table, a_task])
def test_what_is_wrong_with_folders_named_after_patients(damage, tmp_path: Path, capfd) -> None:
    folders(tmp_path)
    changes = {"version": "1.0", **damage(tmp_path / "zyxwvut" / "Atlas of Qponmlk")}
    args = arguments_for(tmp_path, changes)
    for verb in ([] if damage in (lacks_a_mask, cut_off) else ["plan"], ["verify"]):
        assert main([*verb, *args]) == 2
        shown = told(capfd)
        assert shown
        assert not NAME.search(shown)
    assert leaks(tmp_path / "runs") == []


def arguments_for(tmp_path: Path, changes: dict[str, Any]) -> list[str]:
    """Arguments for folders that are there already."""
    data = tmp_path / "zyxwvut" / "Atlas of Qponmlk"
    entry = {
        "layout": "abdomen_atlas",
        "root": str(data),
        "organs": list(scans.ORGANS),
        "test": [FOLDERS["test"]],
    }
    entry = {key: value for key, value in {**entry, **changes}.items() if value is not None}
    if entry["layout"] != "abdomen_atlas":
        entry.pop("version", None)
    stream = scans.conf(tmp_path / "conf", north=entry)
    return [*stream, "debug=tiny", *places(tmp_path)]


@pytest.mark.parametrize(
    "root",
    [
        "http://zyxwvut:qponmlk@127.0.0.1:9/{}",
        "zip://Zyxwvut::/qponmlk/{}.zip",
        "memory://qponmlk/zyxwvut/{}",
    ],
)
def test_a_url_that_does_not_answer(root: str, tmp_path: Path, capfd) -> None:
    args = arguments_for(tmp_path, {"version": "1.0", "root": root.format("scans")})
    for verb in ([], ["verify"], ["plan"]):
        assert main([*verb, *args]) == 2
        shown = told(capfd)
        assert shown
        assert not NAME.search(shown)
    assert leaks(tmp_path / "runs") == []


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
        names = [str(found[0].images[0]), found[0].patient, found[0].id]
        spelt = [way(name) for name in names for way in (str, str.upper, str.lower, ascii, repr)]
        raise RuntimeError(f"bug in {spelt}; {found[0]}; {'; '.join(spelt)}")

    monkeypatch.setattr(loader, "read_into", crash)
    assert main(odd) in (1, 2)
    shown = told(capfd)
    assert b"bug in" in shown
    assert not NAME.search(shown)
    assert leaks(tmp_path / "Frau Qponmlk's Ordner" / "runs") == []
