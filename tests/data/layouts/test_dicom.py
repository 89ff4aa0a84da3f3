"""Hospitals of DICOM folders: what is listed, what is read, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from slices import write, write_scan

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.layouts.dicom import DicomLayout
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.readers import dicom_slice

ORGANS = ("liver", "spleen")
SPLIT = {"train": ["a"], "test": ["b"]}


@pytest.fixture(scope="module")
def drawn():
    phantom = PhantomLayout(
        "h", train=1, test=1, shape=(32, 30, 28), organs=ORGANS, scanner={"spacing": [11, 10, 9]}
    )
    return [phantom.load(case) for case in phantom.cases()]


@pytest.fixture
def root(tmp_path: Path, drawn) -> Path:
    for name, raw in zip("ab", drawn, strict=True):
        write_scan(tmp_path / name, raw.image, raw.affine, PatientID=f"DOE-{name}")
        nib.save(nib.Nifti1Image(raw.label, raw.affine), tmp_path / f"{name}.nii.gz")
        (tmp_path / f"{name}-masks").mkdir()
        for i, organ in enumerate(ORGANS, start=1):
            mask = (raw.label == i).astype(np.uint8)
            nib.save(nib.Nifti1Image(mask, raw.affine), tmp_path / f"{name}-masks" / f"{organ}.nii.gz")
    return tmp_path


def layout(root: Path, **options) -> DicomLayout:
    given = {"split": SPLIT, "series": "[ab]", "label": "{case}.nii.gz", "labels": {"liver": 1, "spleen": 2}}
    return open_layout({"name": "north", "layout": "dicom", "root": str(root), **given, **options})


def errors(found: DicomLayout) -> list[LifelongCTError]:
    return [item for item in found.inspect() if isinstance(item, LifelongCTError)]


@pytest.mark.parametrize(
    "options", [{}, {"label": "{case}-masks", "labels": None, "masks": {o: f"{o}.nii.gz" for o in ORGANS}}]
)
def test_a_case_is_what_was_written(root, drawn, options):
    found = layout(root, **options)
    cases = list(found.cases())
    assert [(c.id, c.patient, c.split, c.modality) for c in cases] == [
        ("a", "DOE-a", "train", "CT"),
        ("b", "DOE-b", "test", "CT"),
    ]
    for case, raw in zip(cases, drawn, strict=True):
        got = found.load(case)
        np.testing.assert_array_equal(got.image, raw.image)
        np.testing.assert_allclose(got.affine, raw.affine, atol=1e-9)
        for organ in ORGANS:
            np.testing.assert_array_equal(got.mask(organ), raw.mask(organ))


def test_listing_reads_one_header_a_series_and_no_pixel(root, monkeypatch):
    seen = []
    real = dicom_slice.header
    monkeypatch.setattr(
        "lifelong_ct.data.layouts.dicom.header", lambda path, tags: seen.append(path) or real(path, tags)
    )
    monkeypatch.setattr(dicom_slice, "read_slice", lambda path: pytest.fail("more was read"))
    listing = layout(root).cases()
    assert not seen
    next(listing)
    assert [path.parent.name for path in seen] == ["a"]
    next(listing)
    assert [path.parent.name for path in seen] == ["a", "b"]


def test_folders_of_patient_study_and_series(root, drawn):
    (root / "deep" / "p1" / "s").mkdir(parents=True)
    shutil.move(root / "a", root / "deep" / "p1" / "s" / "1")
    shutil.copytree(root / "deep" / "p1" / "s" / "1", root / "deep" / "p1" / "s" / "2")
    found = DicomLayout(
        "north", root=str(root / "deep"), series="*/*/*", split={"train": ["p1/*"]}, patient="folder"
    )
    assert [(c.id, c.patient, c.organs) for c in found.cases()] == [
        ("p1/s/1", "p1", ()),
        ("p1/s/2", "p1", ()),
    ]


def test_a_split_may_be_a_file(root):
    (root / "split.json").write_text(json.dumps(SPLIT))
    assert list(layout(root, split="split.json").cases()) == list(layout(root).cases())
    (root / "split.json").write_text("{")
    for name in ("split.json", "gone.json"):
        with pytest.raises(DataError, match="split cannot be read"):
            layout(root, split=name)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"train": ["a"]}, ["neither in train nor in test", "case b"]),
        ({"train": ["a", "b"], "test": ["b"]}, ["in train and in test", "case b"]),
        ({"train": ["a"], "test": ["b", "c"]}, ["no series fits", "c"]),
    ],
)
def test_the_split_is_never_guessed(root, split, words):
    (error,) = errors(layout(root, split=split))
    for word in words:
        assert word in str(error)


def test_one_patient_in_both_splits_is_an_error(root):
    shutil.rmtree(root / "b")
    shutil.copytree(root / "a", root / "b")
    (error,) = errors(layout(root))
    assert "train and in test" in error.what
    assert "patient: folder" in error.fix


def test_every_problem_is_listed_in_one_pass(root):
    for name, changes in (
        ("nobody", {"PatientID": None}),
        ("nuclear", {"Modality": "PT", "RescaleSlope": 1}),
        ("unlabelled", {}),
    ):
        write(root / name, np.zeros((3, 4, 4), np.uint16), **changes)
    (root / "void").mkdir()
    found = errors(layout(root, series="*[!s]", split={"train": ["*"]}))
    expected = (
        ("nobody", "no-patient"),
        ("nuclear", "modality"),
        ("unlabelled", "missing"),
        ("void", "empty-series"),
    )
    for error, (name, code) in zip(found, expected, strict=True):
        assert f"case {name}" in error.where
        assert error.code == code
    assert "'PT'" in found[1].what


def test_the_problems_of_a_series_name_the_case(root):
    next((root / "a").iterdir()).rename(root / "a" / "away.txt")
    found = layout(root)
    first = next(iter(found.cases()))
    (root / "a" / "away.txt").unlink()
    (problem,) = found.problems(first)
    assert problem.code in ("missing-slices", "shape-mismatch")
    assert "case a" in problem.where


def test_a_dicom_segmentation_is_told_to_be_converted(root):
    (root / "a.dcm").write_bytes(b"x")
    found = layout(root, label="a.dcm")
    with pytest.raises(DataError, match="no reader") as caught:
        found.load(next(iter(found.cases())))
    assert "convert a DICOM segmentation" in caught.value.fix


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"patient": "name"}, "patient"),
        ({"labels": None}, "needs `label`"),
        ({"masks": {"liver": "l.nii.gz"}}, "needs `label`"),
        ({"labels": {"liver": 0}}, "id of liver"),
        ({"labels": {"liver": [1, "2"]}}, "id of liver"),
        ({"labels": {"livr": 1}}, "livr"),
        ({"split": {"training": ["a"]}}, "train and test"),
        ({"split": {"train": "a"}}, "train and test"),
        ({"sets": 1}, "options"),
    ],
)
def test_options_that_are_none_are_named(root, options, word):
    with pytest.raises(LifelongCTError, match=word):
        layout(root, **options)
    with pytest.raises(LifelongCTError, match="does not exist"):
        layout(root / "gone")
