"""The decathlon's format, also as others use it."""

import json
from pathlib import Path

import numpy as np
import pytest
from scans import save

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.layouts import open_layout

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (6, 4, 4)
LABELS = {"0": "background", "1": "spleen", "2": "liver"}


def write(root: Path, names=("spleen_2", "spleen_10"), **changes) -> Path:
    label = np.zeros(SHAPE, np.uint8)
    label[0], label[1] = 1, 2
    for name in names:
        scan = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
        save(scan, AFFINE, root / "imagesTr" / f"{name}.nii.gz")
        save(label, AFFINE, root / "labelsTr" / f"{name}.nii.gz")
    rows = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names]
    content = {
        "name": "Spleen",
        "licence": "CC-BY-SA 4.0",
        "modality": {"0": "CT"},
        "labels": LABELS,
        "numTraining": len(rows),
        "training": rows,
        "test": ["./imagesTs/spleen_1.nii.gz"],
        **changes,
    }
    (root / "dataset.json").write_text(json.dumps(content))
    save(np.zeros(SHAPE, np.int16), AFFINE, root / "imagesTs" / "spleen_1.nii.gz")
    return root


def layout(root: Path, **options):
    return open_layout({"name": "msd", "layout": "msd", "root": str(root), **options})


def row(name: str) -> dict[str, str]:
    return {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"}


def test_a_task(tmp_path):
    found = layout(write(tmp_path), test=["spleen_10"])
    cases = {case.id: case for case in found.cases()}
    assert {name: case.split for name, case in cases.items()} == {
        "spleen_2": "train",
        "spleen_10": "test",
        "spleen_1": "test",
    }
    first = cases["spleen_2"]
    assert (first.licence, first.label_kind, first.modality) == ("CC-BY-SA 4.0", "expert", "CT")
    assert first.images == (tmp_path / "imagesTr" / "spleen_2.nii.gz",)
    raw = found.load(first)
    assert raw.mask("spleen")[0].all()
    assert raw.mask("liver")[1].all()
    assert raw.mask("liver").sum() == raw.mask("spleen").sum() == 16
    assert (cases["spleen_1"].organs, cases["spleen_1"].label) == ((), None), "labels are kept back"


def test_test_cases_without_labels_do_not_say_which_are_for_testing(tmp_path):
    with pytest.raises(DataError, match="its test cases have no labels") as caught:
        layout(write(tmp_path))
    assert "test: [" in caught.value.fix


def test_others_give_labels_of_test_and_validation_cases(tmp_path):
    names = ("a", "b", "c")
    write(tmp_path, names, training=[row("a")], validation=[row("b")], test=[row("c")])
    with pytest.raises(DataError, match="validation"):
        list(layout(tmp_path).cases())
    sides = {case.id: case.split for case in layout(tmp_path, val="test").cases()}
    assert sides == {"a": "train", "b": "test", "c": "test"}
    split = {"train": ["a", "c"], "test": ["b"]}
    sides = {case.id: case.split for case in layout(tmp_path, split=split).cases()}
    assert sides == {"a": "train", "b": "test", "c": "train"}


def test_names_of_a_task_are_given_a_meaning(tmp_path):
    """Task 3 calls a tumour of the liver `cancer`."""
    write(tmp_path, ["liver_0"], labels={"0": "background", "1": "liver", "2": "cancer"})
    with pytest.raises(LifelongCTError, match="unknown organ 'cancer'"):
        layout(tmp_path, test=[])
    found = layout(tmp_path, test=[], labels={"liver": [1, 2], "liver_tumor": 2})
    case = next(found.cases())
    raw = found.load(case)
    assert raw.mask("liver").sum() == 32
    assert raw.mask("liver_tumor").sum() == 16


def test_what_does_not_fit_is_told(tmp_path):
    write(tmp_path, ["a"], training=[row("a"), row("a"), row("gone")], test=[])
    found = list(layout(tmp_path, test=[]).inspect())
    told = [item.what if isinstance(item, LifelongCTError) else item.id for item in found]
    assert told == ["a", "it is listed twice", "the file does not exist", "the file does not exist"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}},
            ["layout: nnunet", "id: name"],
        ),
        ({"labels": None}, ["labels"]),
        ({"modality": {"0": "PET"}}, ["PET", "modality: CT"]),
        ({"training": [{"image": "a.nii.gz"}]}, ["training", "found image"]),
        ({"training": ["a.nii.gz"]}, ["training", "found str"]),
        ({"training": {"a": 1}}, ["training", "found a"]),
    ],
)
def test_another_description_is_told_apart(change, words, tmp_path):
    with pytest.raises(DataError) as caught:
        layout(write(tmp_path, **change), test=[])
    assert all(word in str(caught.value) for word in words)


def test_another_folder_is_told_what_was_expected_and_what_is_there(tmp_path):
    write(tmp_path / "Task09_Spleen")
    with pytest.raises(
        DataError, match=r"expected a task with dataset\.json.*found 1 folders.*Task09_Spleen"
    ):
        layout(tmp_path, test=[])
