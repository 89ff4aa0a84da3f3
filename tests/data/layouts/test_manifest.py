"""Manifests: JSON, CSV and inline; what is wrong in them is said with the case."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import trimesh

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.keys import volume_key
from lifelong_ct.data.layouts.manifest import ManifestLayout

SHAPE = (6, 6, 6)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    ids = np.zeros(SHAPE, np.uint8)
    ids[4:, :2] = 3  # right: liver
    ids[:2, :2] = 7  # left: spleen
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        scan = rng.integers(-1000, 1000, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(scan, AFFINE), tmp_path / name / "ct.nii.gz")
        nib.save(nib.Nifti1Image(ids, AFFINE), tmp_path / name / "seg.nii.gz")
    return tmp_path


def row(name: str, **changes) -> dict:
    plain = {
        "id": name,
        "image": f"{name}/ct.nii.gz",
        "label": f"{name}/seg.nii.gz",
        "patient": f"p-{name}",
        "split": "train",
        "organs": ["spleen", "liver"],
    }
    return {key: value for key, value in {**plain, **changes}.items() if value is not None}


def manifest(*rows: dict, **changes) -> dict:
    return {"hospital": "north", "labels": {"liver": 3, "spleen": 7}, "cases": list(rows), **changes}


def layout(root: Path, content: object, **options) -> ManifestLayout:
    path = root / "manifest.json"
    path.write_text(json.dumps(content))
    return ManifestLayout("north", manifest=str(path), **options)


def test_a_case_is_read_with_local_ids_in_the_order_of_its_organs(root):
    found = layout(root, manifest(row("a")))
    (case,) = found.cases()
    raw = found.load(case)
    assert (case.organs, raw.organs) == (("spleen", "liver"), ("spleen", "liver"))
    assert raw.label[5, 0, 0] == 2
    assert raw.label[0, 0, 0] == 1
    assert (case.modality, case.split, case.patient) == ("CT", "train", "p-a")


def test_csv_inline_and_json_say_the_same(root):
    by_json = list(layout(root, manifest(row("a"), row("b", split="test"))).cases())
    lines = ["id,image,label,patient,split,organs,labels"]
    for name, split in (("a", "train"), ("b", "test")):
        lines.append(
            f"{name},{name}/ct.nii.gz,{name}/seg.nii.gz,p-{name},{split},spleen;liver,liver=3;spleen=7"
        )
    (root / "manifest.csv").write_text("\n".join(lines))
    assert list(ManifestLayout("north", manifest=str(root / "manifest.csv")).cases()) == by_json
    inline = ManifestLayout("north", manifest=manifest(row("a"), row("b", split="test")), root=str(root))
    assert list(inline.cases()) == by_json


def test_a_case_may_have_ids_of_its_own_and_no_label_at_all(root):
    found = layout(
        root, manifest(row("a", labels={"liver": 7, "spleen": 3}, organs=["liver"]), row("b", label=None))
    )
    first, second = found.cases()
    assert first.label_ids == {"liver": (7,), "spleen": (3,)}
    assert (second.organs, second.label) == ((), None)
    assert found.load(second).label is None


def test_aliases_are_understood(root):
    content = manifest(row("a", organs=["Spleen", "liver"]), labels={"liver": 3, "spleen": 7})
    assert next(iter(layout(root, content).cases())).organs == ("spleen", "liver")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"organs": ["livr"]}, ["livr", "liver", "case a"]),
        ({"organs": None}, ["organs", "case a"]),
        ({"organs": ["aorta"]}, ["aorta", "case a"]),
        ({"patient": None}, ["patient", "case a"]),
        ({"split": "validation"}, ["validation", "train or test"]),
        ({"splitt": "train"}, ["splitt", "fields are"]),
        ({"image": "a/gone.nii.gz"}, ["does not exist", "case a", "gone.nii.gz"]),
        ({"labels": {"liver": "three"}}, ["three", "whole number"]),
        ({"labels": {"liver": 7}}, ["7", "one id per organ"]),
        ({"labels": {"liver": 0}}, ["0", "one id per organ"]),
        ({"labels": ["liver"]}, ["labels", "case a"]),
        ({"labels": 3}, ["labels", "case a"]),
        ({"organs": 5}, ["organs", "case a"]),
        ({"organs": {"liver": 1}}, ["organs", "case a"]),
    ],
)
def test_what_is_wrong_with_a_case_is_said(root, changes, words):
    with pytest.raises(LifelongCTError) as caught:
        list(layout(root, manifest(row("a", **changes))).cases())
    assert caught.value.fix
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "content", [[1], {"cases": {}}, {"cases": [1]}, {"cases": "x"}, {"labels": 3, "cases": []}]
)
def test_a_manifest_of_another_shape_is_refused(root, content):
    with pytest.raises(LifelongCTError):
        list(layout(root, content).cases())


def test_every_problem_is_listed_and_the_good_cases_too(root):
    rows = (row("a"), row("a"), row("b", patient="p-a", split="test"), row("c"), row("d", organs=["x"]))
    found = list(layout(root, manifest(*rows)).inspect())
    told = [str(item) if isinstance(item, LifelongCTError) else item.id for item in found]
    for item, word in zip(
        told, ("a", "used twice", "in train and in test", "c/ct.nii.gz", "c/seg.nii.gz", "x"), strict=True
    ):
        assert word in item


def test_undeclared_and_empty_labels_are_errors_unless_allowed(root):
    content = manifest(row("a", organs=["liver"]), labels={"liver": 3})
    strict, loose = layout(root, content), layout(root, content, other_labels="ignore")
    (case,) = strict.cases()
    with pytest.raises(DataError, match="not declared"):
        strict.load(case)
    assert set(np.unique(loose.load(case).label)) == {0, 1}
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE), root / "a" / "seg.nii.gz")
    with pytest.raises(DataError) as caught:
        loose.load(case)
    assert caught.value.code == "empty-label"
    assert layout(root, content, empty_labels="ignore").load(case).label.max() == 0
    with pytest.raises(LifelongCTError, match="maybe"):
        layout(root, content, other_labels="maybe")


def test_labels_that_are_mirrored_against_the_patient_are_refused(root):
    content = manifest(row("a"), labels={"liver": 7, "spleen": 3})
    found = layout(root, content)
    (case,) = found.cases()
    with pytest.raises(DataError, match="mirrored") as caught:
        found.load(case)
    assert caught.value.code == "geometry-mismatch"


def test_all_problems_of_a_case_are_found_in_one_pass(root):
    (root / "a" / "ct.nii.gz").write_bytes(b"")
    nib.save(nib.Nifti1Image(np.full(SHAPE, 0.5, np.float32), AFFINE), root / "a" / "seg.nii.gz")
    found = layout(root, manifest(row("a")))
    (case,) = found.cases()
    codes = [problem.code for problem in found.problems(case)]
    assert codes == ["corrupt", "fractional-label"]
    assert all("case a" in problem.where for problem in found.problems(case))


def test_no_manifest_and_no_folder_are_errors(tmp_path):
    with pytest.raises(LifelongCTError, match="cannot be read"):
        ManifestLayout("north", manifest=str(tmp_path / "gone.json"))
    (tmp_path / "half.json").write_text("{")
    with pytest.raises(LifelongCTError, match="cannot be read"):
        ManifestLayout("north", manifest=str(tmp_path / "half.json"))
    with pytest.raises(LifelongCTError, match=r"paths\.data"):
        ManifestLayout("north", manifest={"cases": []}, root=str(tmp_path / "gone"))


@pytest.fixture
def kits(root):
    """Case a with two kidneys, 1, and a tumour, 2, in the left one."""
    ids = np.zeros(SHAPE, np.uint8)
    ids[:2, 1:5, 1:5] = ids[4:, 1:5, 1:5] = 1
    ids[0, 2, 2] = 2
    nib.save(nib.Nifti1Image(ids, AFFINE), root / "a" / "seg.nii.gz")
    return root, ids


def test_labels_may_name_a_map_of_the_library(kits):
    root, ids = kits
    found = layout(root, manifest(row("a", organs=None), labels="KiTS"))
    (case,) = found.cases()
    assert case.organs[:3] == ("kidney", "kidney_tumor", "kidney_cyst")
    assert ("kidney_left", "kidney_right") in case.splits
    raw = found.load(case)
    np.testing.assert_array_equal(raw.mask("kidney_tumor_left"), ids == 2)
    np.testing.assert_array_equal(raw.mask("kidney_right"), (ids == 1) & (np.arange(6) > 2)[:, None, None])
    assert not found.problems(case)


def test_a_case_may_name_a_map_of_its_own(kits):
    root, ids = kits
    found = layout(root, manifest(row("a", labels="AbdomenCT-1K", organs=["kidney", "liver"]), row("b")))
    first, second = found.cases()
    np.testing.assert_array_equal(found.load(first).mask("kidney"), ids == 2)
    assert second.label_ids == {"liver": (3,), "spleen": (7,)}
    text = "id,image,label,patient,split,labels\na,a/ct.nii.gz,a/seg.nii.gz,p,train,KiTS19\n"
    (root / "manifest.csv").write_text(text)
    (case,) = ManifestLayout("north", manifest=str(root / "manifest.csv")).cases()
    assert "kidney_cyst" not in case.organs
    assert "kidney_tumor_right" in case.organs


def test_an_unknown_map_and_one_that_leaves_the_organs_to_the_cases(root):
    with pytest.raises(LifelongCTError) as error:
        layout(root, manifest(row("a"), labels="KiTS22"))
    assert "KiTS23" in error.value.fix
    (error,) = layout(root, manifest(row("a", organs=None), labels="FLARE23")).inspect()
    assert "no annotated `organs`" in error.what
    assert "FLARE23" in error.fix
    (case,) = layout(root, manifest(row("a"), labels="FLARE23")).cases()
    assert case.organs == ("spleen", "liver")


def test_own_labels_follow_the_rules_too(kits):
    root, ids = kits
    labels = {"kidney": 1, "kidney_tumor": 2}
    found = layout(root, manifest(row("a", organs=["kidney_left", "kidney_right"]), labels=labels))
    (case,) = found.cases()
    raw = found.load(case)
    np.testing.assert_array_equal(raw.mask("kidney_left"), (ids > 0) & (np.arange(6) < 3)[:, None, None])


def test_a_mesh_is_a_label_on_the_grid_of_its_image(root):
    """Its options are part of the case: others make another volume."""
    ball = trimesh.creation.icosphere(radius=4).apply_translation((-5, -5, 5))
    ball.export(root / "a" / "liver.stl")
    case_row = row("a", label="a/liver.stl", organs=["liver"], labels={"liver": 1})
    found = layout(root, manifest(case_row, labels={}), shapes={"space": "LPS"})
    (case,) = found.cases()
    liver = found.load(case).mask("liver")
    centres = np.moveaxis(np.indices(SHAPE), 0, -1) * 2.0
    away = np.linalg.norm(centres - 5, axis=-1)
    np.testing.assert_array_equal(
        liver, away < 4
    )  # no centre lies within the facets' error: √11 and √19 do not
    assert found.problems(case) == []
    other = layout(root, manifest(case_row, labels={}))
    (plain,) = other.cases()
    one, two = (volume_key(c, None, "content", made) for c, made in ((plain, other), (case, found)))
    assert (plain.params, one != two) == ({}, True)
    (problem,) = other.problems(plain)
    assert (problem.code, "case a" in problem.where) == ("outside-image", True)
    (root / "a" / "ct.nii.gz").write_bytes(b"")
    assert [p.code for p in found.problems(case)] == ["corrupt"]
    with pytest.raises(LifelongCTError, match="spaces"):
        layout(root, manifest(case_row), shapes={"spaces": "LPS"})


@pytest.mark.parametrize("number", [1.5, True, "1.5", "", None, [3], "0x3"])
def test_an_id_that_is_no_whole_number_is_refused_not_rounded(root, number):
    with pytest.raises(LifelongCTError, match="the id of liver"):
        layout(root, manifest(row("a"), labels={"liver": number, "spleen": 7}))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"modality": "XX"}, "XX"),
        ({"modality": 3}, "modality"),
        ({"id": {"a": 1}}, "'id'"),
        ({"patient": [1]}, "'patient'"),
    ],
)
def test_an_odd_field_is_refused(root, changes, word):
    with pytest.raises(LifelongCTError, match=word):
        list(layout(root, manifest(row("a", **changes))).cases())


def test_a_modality_in_small_letters_is_checked_as_ct(root):
    (case,) = layout(root, manifest(row("a", modality="ct"))).cases()
    assert case.modality == "CT"


def test_a_csv_with_a_byte_order_mark_is_read(root):
    text = "id,image,label,patient,split,organs,labels\na,a/ct.nii.gz,a/seg.nii.gz,p,train,liver;spleen,liver=3;spleen=7\n"
    (root / "m.csv").write_text(text, encoding="utf-8-sig")
    (case,) = ManifestLayout("north", manifest=str(root / "m.csv")).cases()
    assert case.id == "a"


def test_json_of_endless_depth_is_an_error(root):
    (root / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(LifelongCTError, match="cannot be read"):
        ManifestLayout("north", manifest=str(root / "manifest.json"))
