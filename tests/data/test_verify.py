"""Every problem of a hospital in one pass, on the terminal and as JSON."""

import json
import threading
import time
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.cli.main import main
from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.side_by_side import Job, in_order
from lifelong_ct.data.verify import verify, verify_stream

SHAPE = (8, 8, 8)


def hospital(folder: Path, cases: dict[str, str]) -> Path:
    """NIfTI cases with a manifest; the value says what is wrong with each."""
    rng = np.random.default_rng(0)
    rows = []
    for name, fault in cases.items():
        scan = rng.integers(-1000, 1000, SHAPE).astype(np.int16)
        ids = np.zeros(SHAPE, np.uint8)
        ids[3:6, 3:6, 3:6] = 1
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        where = affine.copy()
        where[0, 3] = 30.0 if fault == "moved" else 0.0
        image, label = folder / f"{name}.nii.gz", folder / f"{name}_seg.nii.gz"
        nib.save(nib.Nifti1Image(scan, affine), image)
        nib.save(nib.Nifti1Image(ids[:-1] if fault == "short" else ids, where), label)
        if fault == "cut":
            image.write_bytes(image.read_bytes()[:-30])
        if fault == "gone":
            label.unlink()
        organs = ["livr"] if fault == "unknown" else ["liver"]
        row = {"id": name, "patient": name, "split": "train", "organs": organs}
        rows.append({**row, "image": image.name, "label": label.name})
    path = folder / "manifest.json"
    path.write_text(json.dumps({"labels": {"liver": 1}, "cases": rows}))
    return path


FAULTS = {"a": "", "b": "moved", "c": "short", "d": "cut", "e": "gone", "f": "unknown", "g": ""}


def test_it_goes_on_after_each_problem(tmp_path: Path) -> None:
    layout = open_layout({"name": "north", "layout": "manifest", "manifest": str(hospital(tmp_path, FAULTS))})
    found = {problem.file.split("case ")[1][0]: problem.code for problem in verify(layout)}
    assert found == {
        "b": "geometry-mismatch",
        "c": "shape-mismatch",
        "d": "corrupt",
        "e": "missing",
        "f": "configuration",
    }


def test_a_layout_without_inspection_tells_the_first_problem_of_each_case() -> None:
    class Plain:
        def cases(self):
            yield from open_layout({"name": "x", "layout": "phantom", "train": 2, "test": 0}).cases()

        def load(self, case):
            raise DataError("it is broken", "file", "mend it", "corrupt")

    assert [problem.code for problem in verify(Plain())] == ["corrupt", "corrupt"]


def stream(folder: Path, manifest: Path) -> list[str]:
    (folder / "conf" / "stream").mkdir(parents=True)
    (folder / "conf" / "stream" / "mine.yaml").write_text(
        "_target_: lifelong_ct.streams.domain_incremental.DomainIncremental\n"
        "name: mine\norgans: [liver]\npatch: [8, 8, 8]\nsteps: 1\n"
        f"hospitals: [{{name: north, layout: manifest, sharing: patches, manifest: {manifest}}}]\n"
        "unseen: []\norder: null\nfirst: null\nlimit: null\n"
    )
    return ["stream=mine", "--config-dir", str(folder / "conf"), f"paths.state={folder / 'state'}"]


@pytest.mark.parametrize(("faults", "code", "count"), [({"a": ""}, 0, 0), (FAULTS, 2, 5)])
def test_the_verb_writes_a_list_and_tells_by_its_exit_code(faults, code, count, tmp_path: Path) -> None:
    args = stream(tmp_path, hospital(tmp_path, faults))
    assert main(["verify", *args, f"verify.json={tmp_path / 'out.json'}"]) == code
    problems = json.loads((tmp_path / "out.json").read_text())
    assert len(problems) == count
    for problem in problems:
        assert set(problem) == {"case", "file", "code", "found", "expected", "fix"}
        assert problem["found"]
        assert problem["expected"] or problem["code"] == "configuration"
        assert problem["fix"]


def test_an_unknown_layout_names_the_near_one() -> None:
    with pytest.raises(LifelongCTError, match="did you mean manifest"):
        open_layout({"name": "x", "layout": "manifst"})
    with pytest.raises(LifelongCTError, match="options"):
        open_layout({"name": "x", "layout": "phantom", "frob": 1})


def saved_scan(path: Path, seed: int) -> Path:
    scan = np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(scan, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path


def manifest(name: str, *cases: tuple[str, str, str, Path]):
    """A hospital of unlabelled cases: id, patient, split, image."""
    rows = [{"id": i, "patient": p, "split": s, "image": str(image)} for i, p, s, image in cases]
    return open_layout({"name": name, "layout": "manifest", "manifest": {"cases": rows}, "root": "."})


def test_a_scan_that_two_hospitals_hold_is_named_with_both(tmp_path: Path) -> None:
    one, other = saved_scan(tmp_path / "a.nii", 1), saved_scan(tmp_path / "b.nii", 2)
    (tmp_path / "c.nii").write_bytes(one.read_bytes())
    layouts = {
        "north": manifest("north", ("n1", "p1", "train", one), ("n2", "p2", "test", other)),
        "south": manifest("south", ("s1", "p3", "train", tmp_path / "c.nii")),
    }
    (problem,) = verify_stream(layouts)
    assert (problem.case, problem.code) == ("s1", "duplicate")
    assert "n1 of north" in problem.found
    assert "c.nii" in problem.file
    assert problem.expected
    assert problem.fix


def test_a_patient_may_not_be_in_both_splits_of_a_hospital(tmp_path: Path) -> None:
    """Another hospital may call another patient the same."""
    scans = [saved_scan(tmp_path / f"{i}.nii", i) for i in range(4)]
    layouts = {
        "north": manifest("north", ("n1", "p1", "train", scans[0])),
        "south": manifest(
            "south",
            ("s1", "p1", "test", scans[1]),
            ("s2", "p2", "test", scans[2]),
            ("s3", "p2", "train", scans[3]),
        ),
    }
    (problem,) = verify_stream(layouts)
    assert problem.code == "patient-in-both"
    assert "s3" in problem.case + problem.file + problem.found


@pytest.mark.parametrize(("workers", "ram"), [(4, None), (4, 1), (2, 1 << 20)])
def test_the_report_does_not_depend_on_workers_or_memory(workers, ram, tmp_path: Path) -> None:
    layout = open_layout({"name": "north", "layout": "manifest", "manifest": str(hospital(tmp_path, FAULTS))})
    told = []
    alone = list(verify(layout))
    found = list(verify_stream({"north": layout}, workers, ram, lambda *at: told.append(at)))
    assert found == alone
    assert told[-1] == (len(told), len(told))


def test_jobs_at_work_stay_within_the_memory() -> None:
    lock, held, most = threading.Lock(), 0, 0

    def work(nbytes: int) -> int:
        nonlocal held, most
        with lock:
            held += nbytes
            most = max(most, held)
        time.sleep(0.002)
        with lock:
            held -= nbytes
        return nbytes

    sizes = [3, 40, 5, 5, 99, 2, 2, 2, 30, 30] * 4
    found = list(in_order([Job(n, partial(work, n)) for n in sizes], 6, 50))
    assert found == sizes
    assert most <= 99  # the one that is larger than the limit was alone
    assert list(in_order([Job(n, partial(work, n)) for n in (40, 5, 5)], 3, 50)) == [40, 5, 5]
