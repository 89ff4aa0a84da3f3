"""AbdomenAtlas: what its releases annotate, masks and label maps, and what is said where a folder differs."""

from pathlib import Path

import numpy as np
import pytest
from scans import save

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.layouts.abdomen_atlas import AbdomenAtlasLayout

# Qu et al., arXiv 2305.09666, and Li et al., arXiv 2407.16697: names and ids of the releases.
IDS = {
    1: "aorta", 2: "gall_bladder", 3: "kidney_left", 4: "kidney_right", 5: "liver", 6: "pancreas", 7: "postcava",
    8: "spleen", 9: "stomach", 10: "adrenal_gland_left", 11: "adrenal_gland_right", 12: "bladder",
    13: "celiac_trunk", 14: "colon", 15: "duodenum", 16: "esophagus", 17: "femur_left", 18: "femur_right",
    19: "hepatic_vessel", 20: "intestine", 21: "lung_left", 22: "lung_right", 23: "portal_vein_and_splenic_vein",
    24: "prostate", 25: "rectum",
}  # fmt: skip
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (30, 5, 5)


def boxes(count: int) -> dict[str, np.ndarray]:
    """Each organ a plane across x, right ones to the right."""
    names = [IDS[i] for i in range(1, count + 1)]
    order = sorted(names, key=lambda n: (n.endswith("right") or n == "liver", n))
    found = {}
    for x, name in enumerate(order):
        found[name] = np.zeros(SHAPE, np.uint8)
        found[name][x] = 1
    return found


def write(root: Path, name: str, masks: dict[str, np.ndarray], combined: bool = False) -> Path:
    scan = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    save(scan, AFFINE, root / name / "ct.nii.gz")
    if combined:
        ids = {organ: i for i, organ in IDS.items()}
        save(
            sum(mask * ids[organ] for organ, mask in masks.items()),
            AFFINE,
            root / name / "combined_labels.nii.gz",
        )
    else:
        for organ, mask in masks.items():
            save(mask, AFFINE, root / name / "segmentations" / f"{organ}.nii.gz")
    return root / name


def layout(root: Path, **options) -> AbdomenAtlasLayout:
    return open_layout(
        {
            "name": "atlas",
            "layout": "abdomen_atlas",
            "root": str(root),
            "version": "1.0",
            "test": [],
            **options,
        }
    )


@pytest.mark.parametrize(("version", "count"), [("1.0", 9), ("1.0Mini", 9), (1.1, 25), ("1.1Mini", 25)])
@pytest.mark.parametrize("combined", [False, True])
def test_a_release_annotates_its_organs(version, count, combined, tmp_path):
    masks = boxes(count)
    write(tmp_path, "BDMAP_00000001", masks, combined)
    found = layout(tmp_path, version=version)
    (case,) = found.cases()
    whole = {
        "kidney",
        *(("lung", "adrenal_gland", "colon_and_rectum") if count == 25 else ()),
    }  # follow by rule
    assert set(case.organs) - whole == {IDS[i] for i in range(1, count + 1)}
    assert (case.id, case.patient, case.split, case.modality) == (
        "BDMAP_00000001",
        "BDMAP_00000001",
        "train",
        "CT",
    )
    raw = found.load(case)
    for organ, mask in masks.items():
        assert (raw.mask(organ) == mask.astype(bool)).all()


def test_masks_are_read_where_there_are_both_unless_told_otherwise(tmp_path):
    masks = boxes(9)
    folder = write(tmp_path, "BDMAP_00000001", masks)
    write(tmp_path, "BDMAP_00000001", {"spleen": masks["liver"], "liver": masks["spleen"]}, combined=True)
    (case,) = layout(tmp_path).cases()
    assert case.label == folder / "segmentations"
    (case,) = layout(tmp_path, combined=True).cases()
    assert (case.label, case.label_ids["stomach"]) == (folder / "combined_labels.nii.gz", (9,))


def test_a_tumour_in_the_liver_is_kept_voxel_by_voxel(tmp_path):
    """What a release does not define is read if it is asked for."""
    masks = boxes(9)
    tumour = masks["liver"].copy()
    tumour[:, :3] = 0
    write(tmp_path, "BDMAP_00000001", {**masks, "liver_tumor": tumour})
    found = layout(tmp_path, organs=["liver", "liver_tumour", "spleen"])
    with pytest.raises(LifelongCTError, match=r"does not exist"):
        next(found.cases())
    found = layout(tmp_path, organs=["spleen", "liver_tumor", "liver"])
    (case,) = found.cases()
    assert set(case.organs) == {"liver", "liver_tumor", "spleen"}
    raw = found.load(case)
    assert (raw.mask("liver_tumor") == tumour.astype(bool)).all()
    assert (raw.mask("liver") == masks["liver"].astype(bool)).all()


def test_an_organ_whose_file_is_missing_is_an_error_of_its_case(tmp_path):
    for name in ("BDMAP_00000001", "BDMAP_00000002", "BDMAP_00000003"):
        write(tmp_path, name, boxes(9))
    (tmp_path / "BDMAP_00000002" / "segmentations" / "spleen.nii.gz").unlink()
    (tmp_path / "BDMAP_00000003" / "ct.nii.gz").unlink()
    found = list(layout(tmp_path).inspect())
    assert [getattr(item, "id", None) for item in found] == ["BDMAP_00000001", None, None]
    for error, words in zip(
        found[1:], (("00000002", "spleen.nii.gz"), ("00000003", "ct.nii.gz")), strict=True
    ):
        assert isinstance(error, DataError)
        assert error.code == "missing"
        assert all(word in str(error) for word in words)
    with pytest.raises(DataError, match="does not exist"):
        list(layout(tmp_path).cases())
    assert len(list(layout(tmp_path, organs=["liver"], folders="*[12]").cases())) == 2


def test_splits_and_patients(tmp_path):
    for number in range(1, 5):
        write(tmp_path, f"BDMAP_{number:08d}", boxes(9))
    sides = {case.id[-1]: case.split for case in layout(tmp_path, test=["*3", "BDMAP_00000001"]).cases()}
    assert sides == {"1": "test", "2": "train", "3": "test", "4": "train"}
    split = {"train": ["*1"], "test": ["*2"], "none": ["*"]}
    assert [case.id[-1] for case in layout(tmp_path, test=None, split=split).cases()] == ["1", "2"]
    same = {f"BDMAP_{number:08d}": f"p{number % 2}" for number in range(1, 5)}
    with pytest.raises(DataError, match="patient is in train and in test") as caught:
        list(layout(tmp_path, test=["*3"], patients=same).cases())
    assert "p1" in str(caught.value)
    cases = layout(tmp_path, test=["*1", "*3"], patients=same).cases()
    assert {case.patient: case.split for case in cases} == {"p1": "test", "p0": "train"}
    with pytest.raises(DataError, match="patient is not told"):
        list(layout(tmp_path, patients={"BDMAP_00000001": "p"}).cases())
    with pytest.raises(DataError, match="no case fits"):
        list(layout(tmp_path, test=["BDMAP_00000009"]).cases())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version": "2.0"}, ["2.0", "1.0Mini"]),
        ({"test": None}, ["test", "split"]),
        ({"root": "gone"}, ["gone", "paths.data"]),
        ({"organs": ["livr"]}, ["livr", "liver"]),
        ({"organs": []}, ["organs"]),
        ({"organs": "liver"}, ["organs"]),
        ({"patients": ["a"]}, ["patients"]),
        ({"val": "maybe"}, ["maybe"]),
        ({"folder": "x"}, ["folder"]),
    ],
)
def test_options_that_are_none(options, words, tmp_path):
    write(tmp_path, "BDMAP_00000001", boxes(9))
    if "root" in options:
        options = {"root": str(tmp_path / options["root"])}
    with pytest.raises(LifelongCTError) as caught:
        list(layout(**{"root": tmp_path, **options}).cases())
    assert all(word in str(caught.value) for word in words)


def test_another_folder_is_told_what_was_expected_and_what_is_there(tmp_path):
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(
        DataError, match=r"expected a folder per case.*found 0 folders and 1 files.*README"
    ) as caught:
        list(layout(tmp_path).cases())
    assert "BDMAP_00000001" in str(caught.value)


def test_a_combined_map_has_no_further_organs(tmp_path):
    write(tmp_path, "BDMAP_00000001", boxes(9), combined=True)
    with pytest.raises(DataError, match="does not annotate liver_tumor"):
        list(layout(tmp_path, organs=["liver", "liver_tumor"]).cases())
