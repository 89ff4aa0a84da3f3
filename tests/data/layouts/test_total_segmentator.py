"""TotalSegmentator: its files are what is annotated, its table says what a case is for."""

from pathlib import Path

import numpy as np
import pytest
from scans import save

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.native_maps import native_map

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
FILES = ("spleen", "liver", "gallbladder", "inferior_vena_cava")
HEADER = "image_id;age;gender;institute;study_type;split"


def write(root: Path, name: str, files=FILES, scan: str = "ct.nii.gz") -> None:
    """Planes across x in the order of `files`."""
    voxels = np.random.default_rng(0).integers(-1000, 1000, (6, 4, 4)).astype(np.int16)
    save(voxels, AFFINE, root / name / scan)
    for x, file in enumerate(files):
        mask = np.zeros((6, 4, 4), np.uint8)
        mask[x] = 1
        save(mask, AFFINE, root / name / "segmentations" / f"{file}.nii.gz")


def table(root: Path, **splits: str) -> None:
    rows = [HEADER, *(f"{name};60;m;C;ct abdomen;{split}" for name, split in splits.items())]
    (root / "meta.csv").write_text(
        "\n".join(rows), encoding="utf-8-sig"
    )  # with a byte order mark, as released


def layout(root: Path, **options):
    return open_layout({"name": "ts", "layout": "total_segmentator", "root": str(root), **options})


def test_files_are_organs_by_their_names(tmp_path):
    write(tmp_path, "s0000")
    table(tmp_path, s0000="train")
    found = layout(tmp_path)
    (case,) = found.cases()
    assert case.organs == ("gall_bladder", "liver", "postcava", "spleen")
    raw = found.load(case)
    for x, organ in enumerate(("spleen", "liver", "gall_bladder", "postcava")):
        expected = np.zeros((6, 4, 4), bool)
        expected[x] = True
        assert (raw.mask(organ) == expected).all()


def test_organs_follow_from_files_by_rule(tmp_path):
    """The colon has the rectum in it; both lobes are the lung."""
    write(tmp_path, "s0000", ("lung_upper_lobe_left", "lung_lower_lobe_left", "colon", "vertebrae_L5"))
    found = layout(tmp_path, test=[])
    (case,) = found.cases()
    lobes = {"lung_lower_lobe_left", "lung_upper_lobe_left"}
    assert set(case.organs) == {*lobes, "lung_left", "colon_and_rectum", "vertebrae_L5"}
    assert set(case.masks["lung_left"]) == {f"{lobe}.nii.gz" for lobe in lobes}
    lung = found.load(case).mask("lung_left")
    assert lung[:2].all()
    assert not lung[2:].any()
    (case,) = layout(tmp_path, test=[], organs=["lung_left"]).cases()
    assert (case.organs, len(case.files)) == (("lung_left",), 3)


@pytest.mark.parametrize("release", ["TotalSegmentator v1", "TotalSegmentator v2", "TotalSegmentator MRI"])
def test_every_file_of_every_release_is_an_organ(release, tmp_path):
    names = native_map(release).names.values()
    (tmp_path / "s0000" / "segmentations").mkdir(parents=True)
    for name in ("../ct", *(f"{name}" for name in names)):
        (tmp_path / "s0000" / "segmentations" / f"{name}.nii.gz").write_bytes(b"")
    (case,) = layout(tmp_path, test=[]).cases()
    assert set(case.organs) == set(native_map(release).organs)
    assert len(case.files) == 1 + len(names)


def test_the_table_says_what_a_case_is_for(tmp_path):
    for name in ("s0000", "s0001", "s0002"):
        write(tmp_path, name)
    table(tmp_path, s0000="train", s0001="val", s0002="test")
    with pytest.raises(DataError, match="validation") as caught:
        list(layout(tmp_path).cases())
    assert "val: train" in caught.value.fix
    for val, expected in (("train", "train"), ("test", "test"), ("none", None)):
        sides = {case.id: case.split for case in layout(tmp_path, val=val).cases()}
        assert sides == {"s0000": "train", "s0002": "test", **({"s0001": expected} if expected else {})}
    assert {case.split for case in layout(tmp_path, test=[]).cases()} == {"train"}


def test_without_a_table_somebody_has_to_say_it(tmp_path):
    write(tmp_path, "s0000")
    with pytest.raises(DataError, match=r"no meta\.csv") as caught:
        list(layout(tmp_path).cases())
    assert "test: [" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found no row"),
        ("name;split\ns0000;train", "found name, split"),
        (f"{HEADER}\ns0000;1;m;A;x;training", "'training' in line 2"),
    ],
)
def test_a_table_of_another_kind_is_refused(text, words, tmp_path):
    write(tmp_path, "s0000")
    (tmp_path / "meta.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        list(layout(tmp_path).cases())


def test_table_and_folders_must_agree(tmp_path):
    write(tmp_path, "s0000")
    write(tmp_path, "s0001")
    table(tmp_path, s0000="train", s0007="test", s0008="test")
    cases, unlisted, gone = layout(tmp_path).inspect()
    assert cases.id == "s0000"
    assert "does not say what it is for" in unlisted.what
    assert "2 cases that have no folder" in gone.what
    assert "s0007" in gone.what


def test_a_file_that_one_case_has_all_must_have(tmp_path):
    write(tmp_path, "s0000", FILES[:3])
    write(tmp_path, "s0001")
    missing, case = layout(tmp_path, test=[]).inspect()
    assert (missing.code, case.id) == ("missing", "s0001")
    assert "inferior_vena_cava" in missing.where
    assert len(list(layout(tmp_path, test=[], organs=["liver", "gall_bladder"]).cases())) == 2


def test_a_file_that_is_no_organ_is_an_error_unless_organs_are_listed(tmp_path):
    write(tmp_path, "s0000", (*FILES, "flux_capacitor"))
    with pytest.raises(LifelongCTError, match="flux_capacitor") as caught:
        list(layout(tmp_path, test=[]).cases())
    assert "organs:" in caught.value.fix
    (case,) = layout(tmp_path, test=[], organs=["gallbladder", "liver"]).cases()
    assert (case.organs, len(case.files)) == (("gall_bladder", "liver"), 3)
    with pytest.raises(DataError, match="does not annotate aorta"):
        list(layout(tmp_path, test=[], organs=["aorta"]).cases())


def test_two_files_of_one_organ_are_an_error(tmp_path):
    write(tmp_path, "s0000", ("gallbladder", "gall_bladder"))
    with pytest.raises(
        DataError, match=r"both gall_bladder\.nii\.gz and gallbladder\.nii\.gz are gall_bladder"
    ):
        list(layout(tmp_path, test=[]).cases())


def test_mr_has_a_scan_of_another_name(tmp_path):
    write(tmp_path, "s0000", scan="mri.nii.gz")
    (case,) = layout(tmp_path, test=[], modality="MR").cases()
    assert (case.images[0].name, case.modality) == ("mri.nii.gz", "MR")
    with pytest.raises(DataError, match="does not exist"):
        list(layout(tmp_path, test=[]).cases())


def test_what_a_system_leaves_in_folders_is_left_alone(tmp_path):
    write(tmp_path, "s0000")
    (tmp_path / "s0000" / "segmentations" / "._liver.nii.gz").write_bytes(b"")
    (tmp_path / ".Trash").mkdir()
    assert len(list(layout(tmp_path, test=[]).cases())) == 1


def test_another_folder_is_told_what_was_expected_and_what_is_there(tmp_path):
    write(tmp_path / "deeper", "s0000")
    with pytest.raises(DataError) as caught:
        list(layout(tmp_path, test=[]).cases())
    assert "expected a folder per case such as s0001, with ct.nii.gz and segmentations" in caught.value.what
    assert f"found 1 folders and 0 files, such as '{tmp_path / 'deeper'}'" in caught.value.what
