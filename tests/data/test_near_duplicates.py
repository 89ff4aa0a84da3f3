"""Scans that are in a stream twice, altered: found by verify, named with both; strangers are left alone."""

from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.altered import ALTERATIONS
from benchmarks.fingerprints import DATA, real
from lifelong_ct.cli.main import main
from lifelong_ct.data.fingerprint import compare, fingerprint
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.verify import verify_stream

SCANNER = {"spacing": [4.0, 4.0, 4.0], "thickness": 4.0, "kernel": 2.0, "noise": 12.0}


@pytest.fixture(scope="module")
def scans():
    layout = PhantomLayout("north", train=3, test=0, shape=(72, 72, 72), scanner=SCANNER)
    return [(raw.image, raw.affine) for raw in map(layout.load, layout.cases())]


def hospital(folder: Path, name: str, split: str, **scans):
    """Unlabelled NIfTI cases, each of a patient of its own."""
    rows = []
    for case, (voxels, affine) in scans.items():
        path = folder / f"{name}-{case}.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(voxels), affine), path)
        rows.append({"id": case, "patient": f"{name} {case}", "split": split, "image": str(path)})
    return open_layout({"name": name, "layout": "manifest", "manifest": {"cases": rows}, "root": "."})


@pytest.mark.parametrize(
    "alteration",
    [
        "turned and moved",
        "float64",
        "clipped to a window",
        "8 bits of [-175, 250]",
        "noise up to 40 HU",
        "voxels 0.6 to 2 times as large",
        "likewise, each axis its own",
        "cropped to 60 … 100 % per axis",
    ],
)
def test_an_altered_copy_at_another_hospital_is_named_with_both(alteration, scans, tmp_path):
    altered = ALTERATIONS[alteration](scans[1], np.random.default_rng(3))
    layouts = {
        "north": hospital(tmp_path, "north", "train", n0=scans[0], n1=scans[1]),
        "south": hospital(tmp_path, "south", "test", s0=scans[2], s1=altered),
    }
    found = [problem for problem in verify_stream(layouts) if problem.code != "implausible-hu"]
    (problem,) = found
    assert (problem.case, problem.code) == ("s1", "near-duplicate")
    assert "n1 of north" in problem.found
    assert "this one is in test, that one in train" in problem.found
    assert "south-s1.nii.gz" in problem.file
    assert problem.expected
    assert problem.fix


def test_what_is_refused_for_another_reason_is_compared_all_the_same(scans, tmp_path):
    window = (np.clip(scans[0][0], -160, 240), scans[0][1])
    layouts = {
        "north": hospital(tmp_path, "north", "train", n0=scans[0]),
        "south": hospital(tmp_path, "south", "train", s0=window),
    }
    assert [p.code for p in verify_stream(layouts)] == ["implausible-hu", "near-duplicate"]


def test_equal_bytes_are_told_once(scans, tmp_path):
    layouts = {
        "north": hospital(tmp_path, "north", "train", n0=scans[0]),
        "south": hospital(tmp_path, "south", "train", s0=scans[0]),
    }
    assert [p.code for p in verify_stream(layouts)] == ["duplicate"]


def test_drawn_patients_are_strangers():
    layouts = {
        name: PhantomLayout(name, train=3, test=1, shape=(48, 48, 48), phase=phase, scanner=SCANNER)
        for name, phase in (("north", "arterial"), ("south", "unenhanced"))
    }
    assert list(verify_stream(layouts)) == []


def test_outside_a_terminal_both_are_pseudonyms(scans, tmp_path, capsys):
    (tmp_path / "conf" / "stream").mkdir(parents=True)
    for name, case in (("north", "QPONMLK-1"), ("south", "ZYXWVUT-2")):
        scan = scans[0] if name == "north" else (scans[0][0][2:], scans[0][1])
        nib.save(nib.Nifti1Image(*scan), tmp_path / f"{case}.nii.gz")
        (tmp_path / f"{name}.csv").write_text(
            f"id,patient,split,image\n{case},p-{case},train,{case}.nii.gz\n"
        )
    (tmp_path / "conf" / "stream" / "mine.yaml").write_text(
        "_target_: lifelong_ct.streams.domain_incremental.DomainIncremental\n"
        "name: mine\norgans: [liver]\npatch: [8, 8, 8]\nsteps: 1\nhospitals:\n"
        + "".join(
            f"- {{name: {name}, layout: manifest, manifest: {tmp_path / name}.csv}}\n"
            for name in ("north", "south")
        )
    )
    out = tmp_path / "out.json"
    args = ["--config-dir", str(tmp_path / "conf"), f"paths.state={tmp_path / 'state'}", f"verify.json={out}"]
    assert main(["verify", "stream=mine", *args]) == 2
    shown = "".join(capsys.readouterr().out.split())
    assert "near-dupl" in shown
    assert "QPONMLK" not in shown
    assert "ZYXWVUT" not in shown
    assert "QPONMLK-1 of north" in out.read_text()


@pytest.fixture(scope="module")
def real_scans():
    found = real(DATA)
    if not found:
        pytest.skip("the folder of real scans is not here")
    return found


@pytest.fixture(scope="module")
def prints(real_scans):
    return {name: fingerprint(*scan, kind) for name, (_, scan, kind) in real_scans.items()}


def test_of_real_scans_only_those_of_one_patient_are_alike(real_scans, prints):
    alike = {(a, b) for a, b in combinations(prints, 2) if compare(prints[a], prints[b], 100) is not None}
    assert alike == {("ts_ct", "ts_ct_sm")}


@pytest.mark.parametrize("seed", [0, 1])
def test_every_altered_copy_of_a_real_scan_is_found(seed, real_scans, prints):
    """Each scan in another way, and in all ways at once."""
    rng = np.random.default_rng(seed)
    ways = [way for way in ALTERATIONS if "50 %" not in way and "60 %" not in way]
    for at, (name, (_, scan, kind)) in enumerate(real_scans.items()):
        for way in (ways[(at + 5 * seed) % len(ways)], "all at once, 60 … 100 % per axis"):
            altered = fingerprint(*ALTERATIONS[way](scan, rng), kind)
            found = {other for other in prints if compare(prints[other], altered, 100) is not None}
            same = {"ts_ct", "ts_ct_sm"} if name.startswith("ts_ct") else {name}
            assert name in found <= same, (name, way)
