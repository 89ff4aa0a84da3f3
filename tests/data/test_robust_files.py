"""Odd and broken files of the wild: each is read, or refused with the file, the reason and a fix."""

import json
from pathlib import Path
from typing import Any

import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.layouts.manifest import ManifestLayout

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CATALOGUE = DATA / "manifest.json"
FILES: list[dict[str, Any]] = (
    json.loads(CATALOGUE.read_text())["robustness"] if CATALOGUE.exists() else [{"file": "none"}]
)
TOTAL = {"spleen": 1, "kidney_right": 2, "kidney_left": 3, "liver": 5, "stomach": 6, "aorta": 52}
"""Ids of TotalSegmentator v2."""
NIFTI = [entry for entry in FILES if entry["file"].endswith((".nii", ".nii.gz", "none"))]
OTHERS = [entry for entry in FILES if entry not in NIFTI]
pytestmark = pytest.mark.skipif(not CATALOGUE.exists(), reason="the folder of real scans is not here")


def read(entry: dict[str, Any]) -> DataError | None:
    """The error of a case that uses the file as its image, or as the label of `ct_base`."""
    path = DATA / entry["file"]
    case = {"id": "odd", "patient": "p", "split": "train", "image": str(path), "organs": []}
    if "seg" in path.name:
        image = DATA / "robust" / "ct_base.nii.gz"
        case |= {"image": str(image), "label": str(path), "organs": list(TOTAL), "labels": TOTAL}
    layout = ManifestLayout("wild", manifest={"cases": [case]}, root=str(DATA), other_labels="ignore")
    try:
        (found,) = layout.cases()
        raw = layout.load(found)
    except DataError as error:
        return error
    assert raw.image.dtype == "int16"
    assert raw.image.ndim == 3
    return None


@pytest.mark.parametrize("entry", NIFTI, ids=lambda entry: Path(entry["file"]).name)
def test_each_file_gets_its_verdict(entry: dict[str, Any]) -> None:
    verdict, _, code = entry["verdict"].partition(": ")
    error = read(entry)
    if verdict.startswith("accept"):
        assert error is None, error
    if verdict == "reject":
        assert error is not None
        assert error.code == code
    if error is not None:
        assert Path(entry["file"]).name in error.where
        assert error.what
        assert error.fix


@pytest.mark.parametrize("entry", OTHERS, ids=lambda entry: Path(entry["file"]).name)
def test_what_is_no_nifti_is_refused_by_name(entry: dict[str, Any]) -> None:
    error = read(entry)
    assert error is not None
    assert Path(entry["file"]).name in error.where
