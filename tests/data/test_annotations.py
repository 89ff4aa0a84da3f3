"""Masks and label maps as local ids: nothing lost, nothing guessed."""

import itertools
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.types import Case
from lifelong_ct.data.annotations import Overlay, Rules, annotate, split_sides
from lifelong_ct.data.images import read_image

SHAPE = (8, 6, 5)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
INSIDE = ("liver", "liver_tumor", "hepatic_vessel")


def save(array, path: Path) -> None:
    nib.save(nib.Nifti1Image(array, AFFINE), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scan = np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(np.int16)
    save(scan, tmp_path / "ct.nii.gz")
    return tmp_path


def of_masks(folder: Path, masks: dict[str, np.ndarray], **more) -> Case:
    for organ, mask in masks.items():
        save(mask.astype(np.uint8), folder / f"{organ}.nii.gz")
    names = {organ: f"{organ}.nii.gz" for organ in masks}
    return Case("h", "c", "p", "train", tuple(masks), (folder / "ct.nii.gz",), folder, names, **more)


def read(case: Case, **rules):
    return annotate(case, read_image(case.images), Rules(**rules))


@pytest.mark.parametrize("organs", list(itertools.permutations(INSIDE[:2])))
def test_masks_that_overlap_come_back_bit_for_bit(folder, organs):
    rng = np.random.default_rng(1)
    masks = {organ: rng.random(SHAPE) < 0.4 for organ in organs}
    raw = read(of_masks(folder, masks))
    assert raw.label.dtype == np.uint8
    for organ, mask in masks.items():
        np.testing.assert_array_equal(raw.mask(organ), mask)


def test_an_overlap_without_a_rule_names_files_and_voxels(folder):
    masks = {organ: np.zeros(SHAPE, bool) for organ in ("liver", "stomach")}
    masks["liver"][4:] = True
    masks["stomach"][4:5] = True
    with pytest.raises(DataError) as caught:
        read(of_masks(folder, masks))
    assert caught.value.code == "overlap"
    assert "share 30 voxels" in caught.value.what
    assert "liver.nii.gz" in caught.value.where
    assert "stomach.nii.gz" in caught.value.where
    raw = read(of_masks(folder, masks), priority=("stomach",))
    np.testing.assert_array_equal(raw.mask("stomach"), masks["stomach"])
    np.testing.assert_array_equal(raw.mask("liver"), masks["liver"] & ~masks["stomach"])


def test_a_priority_leaves_what_contains_the_winner(folder):
    masks = {organ: np.zeros(SHAPE, bool) for organ in INSIDE}
    for organ in INSIDE:
        masks[organ][4:6] = True
    raw = read(of_masks(folder, masks), priority=("hepatic_vessel",))
    assert raw.mask("liver").sum() == raw.mask("hepatic_vessel").sum() == 60
    assert not raw.mask("liver_tumor").any()


def test_a_label_map_may_merge_ids_and_share_them(folder):
    ids = np.zeros(SHAPE, np.uint8)
    ids[5:, :2], ids[5:, 2:4], ids[5:, 4:] = 1, 2, 7
    save(ids, folder / "seg.nii.gz")
    case = Case(
        "h", "c", "p", "train", ("liver", "liver_tumor"), (folder / "ct.nii.gz",), folder / "seg.nii.gz",
        label_ids={"liver": (1, 2, 7), "liver_tumor": (7,)},
    )  # fmt: skip
    raw = read(case)
    np.testing.assert_array_equal(raw.mask("liver"), ids > 0)
    np.testing.assert_array_equal(raw.mask("liver_tumor"), ids == 7)
    with pytest.raises(DataError, match="not declared"):
        read(replace(case, label_ids={"liver": (1,), "liver_tumor": (7,)}))


@pytest.mark.parametrize("flip", [False, True])
def test_a_paired_organ_is_split_by_its_parts(flip):
    affine = AFFINE @ np.diag([-1.0, 1, 1, 1]) if flip else AFFINE
    both = np.zeros((20, 6, 5), bool)
    both[1:4, 1:3] = both[14:19, 1:4] = both[12, 5] = True
    low, high = both.copy(), both.copy()
    low[10:], high[:10] = False, False
    left, right = split_sides(both, affine)
    np.testing.assert_array_equal(left, high if flip else low)
    np.testing.assert_array_equal(right, low if flip else high)


def test_a_split_pair_shares_a_mask(folder):
    both = np.zeros(SHAPE, bool)
    both[1:3, 1:3], both[5:8, 1:3] = True, True
    case = of_masks(folder, {"kidney_left": both})
    case = replace(
        case,
        organs=("kidney_left", "kidney_right"),
        masks=dict.fromkeys(("kidney_left", "kidney_right"), "kidney_left.nii.gz"),
        splits=(("kidney_left", "kidney_right"),),
    )
    raw = read(case)
    assert raw.overlaps == ()
    assert set(np.unique(raw.label[:4])) == {0, 1}
    assert set(np.unique(raw.label[4:])) == {0, 2}


def test_more_sets_than_a_byte_holds_widen_the_label():
    organs = [f"o{i}" for i in range(300)]
    overlay = Overlay((1, 1, 300), organs)
    for i, organ in enumerate(organs):
        mask = np.zeros((1, 1, 300), bool)
        mask[..., i] = True
        overlay.add(organ, mask)
    label, overlaps = overlay.settled(Case("h", "c", "p", "train", tuple(organs)), Rules())
    assert (label.dtype, overlaps) == (np.uint16, ())
    np.testing.assert_array_equal(label.ravel(), np.arange(1, 301))
