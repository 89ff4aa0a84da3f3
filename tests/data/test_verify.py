"""Every problem of a hospital in one pass, on the terminal and as JSON."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.cli.main import main
from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.verify import verify

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
