"""Masks and label maps as local ids: nothing lost, nothing guessed."""

import itertools
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.types import OTHER, UNKNOWN, Case
from lifelong_ct.data.annotations import Rules, annotate
from lifelong_ct.data.bricks import pack
from lifelong_ct.data.images import read_image
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.data.native_maps import native_map
from lifelong_ct.data.types import local_ids
from lifelong_ct.data.volume import BrickCache, StoredVolume
from lifelong_ct.evaluation.cases import score_case
from lifelong_ct.evaluation.volume import Volume

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
    masks["spleen"] = np.zeros(SHAPE, bool)
    with pytest.raises(DataError) as caught:
        read(of_masks(folder, masks))
    assert caught.value.code == "overlap"
    assert "liver and stomach share 30 voxels" in caught.value.what
    assert "spleen" not in caught.value.where
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


def of_map(folder: Path, ids: np.ndarray, name: str, organs=None, **more) -> Case:
    save(ids.astype(np.uint8), folder / "seg.nii.gz")
    known = native_map(name)
    return Case(
        "h", "c", "p", "train", organs or known.organs, (folder / "ct.nii.gz",), folder / "seg.nii.gz",
        label_ids=known.label_ids, splits=known.splits, **more,
    )  # fmt: skip


def kits() -> np.ndarray:
    """Two kidneys, a tumour at the left one that reaches over the middle, a cyst in the right one."""
    ids = np.zeros(SHAPE, np.uint8)
    ids[0:2, 1:5, 1:4], ids[6:8, 1:5, 1:4] = 1, 1
    ids[2:5, 2, 2], ids[7, 2, 2] = 2, 3
    return ids


def test_a_tumour_is_on_the_side_of_its_kidney(folder):
    ids = kits()
    raw = read(of_map(folder, ids, "KiTS"))
    left = np.zeros(SHAPE, bool)
    left[:5] = True
    for organ, number in (("kidney", 1), ("kidney_tumor", 2), ("kidney_cyst", 3)):
        np.testing.assert_array_equal(raw.mask(organ), ids == number)
        np.testing.assert_array_equal(raw.mask(f"{organ}_left"), (ids == number) & left)
        np.testing.assert_array_equal(raw.mask(f"{organ}_right"), (ids == number) & ~left)


@pytest.mark.parametrize(
    "organs",
    [
        ("kidney_tumor_left", "kidney_tumor_right"),
        ("kidney_tumor_right",),
        ("kidney_tumor_left", "kidney_cyst_left"),
    ],
)
def test_so_it_is_where_nobody_asks_for_the_kidneys(folder, organs):
    whole, some = read(of_map(folder, kits(), "KiTS")), read(of_map(folder, kits(), "KiTS", organs))
    assert some.organs == organs
    for organ in organs:
        np.testing.assert_array_equal(some.mask(organ), whole.mask(organ))


def test_sided_kidneys_give_their_tumours_a_side(folder):
    ids = np.select([kits() == 2, kits() == 3, kits() == 1], [26, 32, 2])
    ids[:5] = np.where(ids[:5] == 2, 3, ids[:5])  # Universal-32: 2 right, 3 left, 26 tumour, 32 cyst
    raw = read(
        of_map(folder, ids, "Universal-32", ("kidney_tumor_left", "kidney_tumor_right", "kidney_cyst_right"))
    )
    np.testing.assert_array_equal(raw.mask("kidney_tumor_left"), ids == 26)
    np.testing.assert_array_equal(raw.mask("kidney_cyst_right"), ids == 32)


def test_what_is_not_asked_for_belongs_to_what_it_lies_in(folder):
    ids = kits()
    raw = read(of_map(folder, ids, "KiTS", ("kidney_left", "kidney_right")))
    np.testing.assert_array_equal(raw.mask("kidney_left") | raw.mask("kidney_right"), ids > 0)
    assert raw.mask("kidney_left")[4, 2, 2]
    assert raw.mask("kidney_right")[7, 2, 2]
    alone = read(of_map(folder, ids, "KiTS", ("kidney_left",)))
    np.testing.assert_array_equal(alone.mask("kidney_left"), raw.mask("kidney_left"))
    whole = read(of_map(folder, ids, "KiTS", ("kidney",)))
    np.testing.assert_array_equal(whole.mask("kidney"), ids > 0)
    liver = np.where(ids, 2, 0)
    liver[3:5, 5] = 1
    np.testing.assert_array_equal(read(of_map(folder, liver, "LiTS", ("liver",))).mask("liver"), liver > 0)


def test_masks_that_are_not_asked_for_belong_to_what_they_lie_in(folder):
    rng = np.random.default_rng(4)
    masks = {organ: rng.random(SHAPE) < 0.3 for organ in INSIDE}
    raw = read(replace(of_masks(folder, masks), organs=("liver",)))
    np.testing.assert_array_equal(
        raw.mask("liver"), masks["liver"] | masks["liver_tumor"] | masks["hepatic_vessel"]
    )
    assert raw.overlaps == ()


def test_several_masks_are_merged(folder):
    lobes = ("lung_upper_lobe_left", "lung_lower_lobe_left")
    masks = {organ: np.zeros(SHAPE, bool) for organ in lobes}
    masks[lobes[0]][1:3], masks[lobes[1]][3:5] = True, True
    case = of_masks(folder, masks)
    case = replace(
        case, organs=(*lobes, "lung_left"), masks=case.masks | {"lung_left": tuple(case.masks.values())}
    )
    raw = read(case)
    np.testing.assert_array_equal(raw.mask("lung_left"), masks[lobes[0]] | masks[lobes[1]])
    np.testing.assert_array_equal(raw.mask(lobes[0]), masks[lobes[0]])
    np.testing.assert_array_equal(
        read(replace(case, organs=("lung_left",))).mask("lung_left"), raw.mask("lung_left")
    )
    assert [path.name for path in case.files] == [
        "ct.nii.gz",
        *case.masks[lobes[0]].split(),
        *case.masks[lobes[1]].split(),
    ]


def test_what_nobody_knows_is_neither_organ_nor_background(folder):
    ids = np.zeros(SHAPE, np.uint8)
    ids[5:, :2], ids[6, 1], ids[1, 1] = 1, 14, 14
    raw = read(of_map(folder, ids, "FLARE23", ("liver", "spleen")))
    assert raw.overlaps == ((),)
    np.testing.assert_array_equal(raw.label == 3, ids == 14)
    np.testing.assert_array_equal(raw.mask("liver"), ids == 1)
    codes = LabelSpace(["liver", "spleen"]).encode_lut(raw.organs, raw.overlaps)[raw.label]
    np.testing.assert_array_equal(codes == IGNORE, ids == 14)
    learnt = read(of_map(folder, ids, "FLARE23", ("liver", "any_tumor")))
    assert learnt.overlaps == ()
    np.testing.assert_array_equal(learnt.mask("any_tumor"), ids == 14)


def test_ids_of_no_organ_are_background(folder):
    ids = np.zeros(SHAPE, np.uint8)
    ids[5:, :2], ids[1, 1] = 1, 5
    raw = read(of_map(folder, ids, "CT-ORG", ("liver", "bladder")))
    np.testing.assert_array_equal(raw.label, ids == 1)
    case = of_map(folder, ids, "LiTS")
    with pytest.raises(DataError, match=r"\[5\] are not declared"):
        read(case)
    read(replace(case, label_ids={**case.label_ids, OTHER: (5,)}))
    read(replace(case, label_ids={**case.label_ids, UNKNOWN: (5,)}))


def test_a_label_map_is_no_mask(folder):
    case = of_masks(folder, {"liver": np.ones(SHAPE, bool)})
    save(np.full(SHAPE, 255, np.uint8), folder / "liver.nii.gz")
    assert read(case).mask("liver").all()
    save(np.arange(240).reshape(SHAPE).astype(np.uint8), folder / "liver.nii.gz")
    with pytest.raises(DataError) as caught:
        read(case)
    assert caught.value.code == "not-a-mask"
    assert "liver.nii.gz" in caught.value.where


def test_a_side_that_cannot_be_told_is_said(folder):
    one = np.zeros(SHAPE, bool)
    one[3:5, 1:3] = True
    save(np.random.default_rng(0).integers(-150, 650, SHAPE).astype(np.int16), folder / "ct.nii.gz")  # no air
    case = of_map(folder, one, "AbdomenCT-1K", ("kidney_left", "kidney_right"))
    ids = dict(case.label_ids) | {"kidney": (1,), "kidney_left": (1,), "kidney_right": (1,), "liver": ()}
    with pytest.raises(DataError) as caught:
        read(replace(case, label_ids=ids))
    assert caught.value.code == "unknown-side"
    assert "kidney_left and kidney_right: a part of 20 voxels" in caught.value.what
    np.testing.assert_array_equal(read(replace(case, label_ids=ids, organs=("kidney",))).mask("kidney"), one)


@pytest.mark.parametrize("flip", [False, True])
def test_mirrored_labels_are_found_and_a_few_stray_voxels_are_none(folder, flip):
    masks = {organ: np.zeros(SHAPE, bool) for organ in ("kidney_left", "kidney_right")}
    masks["kidney_left"][:3], masks["kidney_right"][5:] = True, True
    masks["kidney_left"][6, 0, 0] = False
    if flip:
        masks = {organ: mask[::-1] for organ, mask in masks.items()}
        with pytest.raises(DataError, match="kidney_right lies to the left of kidney_left"):
            read(of_masks(folder, masks))
        return
    masks["kidney_right"][0, :4, 0] = True
    masks["kidney_left"][0, :4, 0] = False
    read(of_masks(folder, masks))


@pytest.fixture
def atlas() -> dict[str, np.ndarray]:
    """Masks as of AbdomenAtlas: a tumour and a vessel that leave the liver in places, and organs beside it."""
    grid = np.stack(np.meshgrid(*map(np.arange, (40, 30, 35)), indexing="ij"), axis=-1)

    def ball(at, radius):
        return ((grid - at) ** 2).sum(axis=-1) <= radius**2

    liver, tumour = ball((28, 14, 20), 9), ball((22, 14, 20), 5)
    assert (tumour & ~liver).any()
    assert (tumour & liver).any()
    vessel = np.zeros_like(liver)
    vessel[27:39, 13:15, 20:22] = True
    return {
        "spleen": ball((7, 8, 22), 5),
        "liver_tumor": tumour,
        "liver": liver,
        "hepatic_vessel": vessel & ~tumour,
        "kidney_left": ball((8, 22, 12), 4),
        "kidney_right": ball((33, 26, 8), 3) & ~liver,
    }


@pytest.fixture
def stored(tmp_path, atlas):
    """The folder, as it is read and as it comes back from the file of a stored volume."""
    scan = np.random.default_rng(0).integers(-1000, 1500, atlas["liver"].shape).astype(np.int16)
    save(scan, tmp_path / "ct.nii.gz")
    raw = read(of_masks(tmp_path, atlas))
    path = tmp_path / "volume"
    path.write_bytes(pack(raw))
    return raw, StoredVolume("volume", path, BrickCache(0, Ledger()))


def test_overlapping_masks_round_trip_through_the_store_bit_for_bit(atlas, stored):
    raw, volume = stored
    image, label = volume.read((0, 0, 0), volume.shape)
    np.testing.assert_array_equal(image[0], raw.image)
    assert volume.organs == tuple(atlas)
    assert set(volume.overlaps) == {(1, 2), (2, 3)}
    for organ, mask in atlas.items():
        back = np.isin(label, local_ids(organ, volume.organs, volume.overlaps))
        assert (back.dtype, back.tobytes()) == (mask.dtype, mask.tobytes())


def test_positions_of_an_organ_are_where_it_overlaps_too(atlas, stored):
    _, volume = stored
    for organ, mask in atlas.items():
        at = tuple(volume.positions(organ).T)
        assert len(at[0]) == min(2048, mask.sum())
        assert mask[at].all()
    shared = atlas["liver"] & atlas["liver_tumor"]
    assert shared[tuple(volume.positions("liver").T)].any()
    assert shared[tuple(volume.positions("liver_tumor").T)].any()


def test_the_parents_volume_is_that_of_the_union(atlas, stored):
    raw, _ = stored
    space = LabelSpace(raw.organs)
    lut = space.encode_lut(raw.organs, raw.overlaps)
    prediction = lut[raw.label]  # a perfect one: every voxel is its innermost organ
    channels = {organ: space.channel(organ) for organ in raw.organs}
    scores = score_case(prediction, raw, channels, raw.spacing, [Volume()])
    found = {(organ, metric): value for organ, metric, value in scores}
    union = atlas["liver"] | atlas["liver_tumor"] | atlas["hepatic_vessel"]
    voxel = 2.0 * 2.0 * 3.0 / 1000
    for metric in ("volume_ml", "reference_ml"):
        assert found["liver", metric] == pytest.approx(union.sum() * voxel)
        assert found["liver_tumor", metric] == pytest.approx(atlas["liver_tumor"].sum() * voxel)
        assert found["spleen", metric] == pytest.approx(atlas["spleen"].sum() * voxel)


def test_codes_of_overlaps_in_a_stream_with_fewer_and_with_more_organs(atlas, stored, tmp_path):
    """A voxel's candidates, from the masks: the innermost annotated organ, or what may hide in it."""
    raw, _ = stored
    space = LabelSpace([*raw.organs, "pancreas"])
    codes = space.encode_lut(raw.organs, raw.overlaps)[raw.label]
    table = space.candidates()
    channel = {organ: space.channel(organ) for organ in raw.organs}
    for organ in ("liver_tumor", "hepatic_vessel"):
        assert (codes[atlas[organ]] == channel[organ]).all()
    alone = atlas["liver"] & ~atlas["liver_tumor"] & ~atlas["hepatic_vessel"]
    assert (codes[alone] == channel["liver"]).all()
    fewer = read(replace(of_masks(tmp_path, atlas), organs=("liver", "hepatic_vessel")))
    partial = space.encode_lut(fewer.organs, fewer.overlaps)[fewer.label]
    table = space.candidates()
    (code,) = np.unique(
        partial[atlas["liver_tumor"]]
    )  # the tumour that nobody asks for is liver, in which a tumour may hide
    assert set(np.flatnonzero(table[code])) == {channel["liver"], channel["liver_tumor"]}
    assert (partial[atlas["hepatic_vessel"]] == channel["hepatic_vessel"]).all()
