"""Native maps against what was published elsewhere: the CLIP-driven model's templates, TotalSegmentator's tables."""

import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import OTHER, UNKNOWN
from lifelong_ct.data.native_maps import known_maps, map_of_names, native_map, own_map, with_rules
from lifelong_ct.data.phantom.real_anatomy import TOTALSEGMENTATOR_V2
from lifelong_ct.data.vocabulary import DEFAULT, default_vocabulary, read_documents

TEMPLATES = {
    "BTCV": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    "Pancreas-CT multi-organ": [1, 0, 3, 4, 5, 6, 7, 0, 0, 0, 11, 0, 0, 14],
    "CHAOS": [6],
    "LiTS": [6, 27],
    "KiTS": [2, 26, 32],
    "WORD": [6, 1, 3, 2, 7, 4, 5, 11, 14, 18, 19, 12, 20, 21, 23, 24],
    "AbdomenCT-1K": [6, 2, 1, 11],
    "AMOS": [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 21, None],
    "CT-ORG": [6, 21, 16, 2],
    "AbdomenCT-12organ": [6, 2, 1, 11, 8, 9, 7, 4, 5, 12, 13, 25],
    "MSD Liver": [6, 27],
    "MSD Lung": [30],
    "MSD Pancreas": [11, 28],
    "MSD HepaticVessel": [15, 29],
    "MSD Spleen": [1],
    "MSD Colon": [31],
    "FLARE22": [6, 2, 1, 11, 8, 9, 12, 13, 4, 5, 7, 14, 3],
}
"""Ids by position → Universal-32: `TEMPLATE` of ljwztc/CLIP-Driven-Universal-Model/label_transfer.py. There 2, 12 and
16, right organs, also stand for those whose sides are split later. AMOS's last is no prostate there either."""
BESIDE = {"CT-ORG": {5, 6}, "CHAOS": {255}}
"""Ids that the templates leave out: bones, brain; CHAOS' own PNG files."""
UNSIDED = {2: "kidney", 12: "adrenal_gland", 16: "lung"}


def innermost(name: str, number: int) -> str | None:
    """The organ of an id: the one of its organs that the others contain, with its side left open."""
    found = native_map(name)
    organs = [o for o in found.organs if number in found.label_ids[o]]
    halves = {side for pair in found.splits for side in pair}
    return default_vocabulary().innermost(o for o in organs if o not in halves) if organs else None


@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_agree_with_the_templates_of_universal_32(name):
    unsided = {left for pair in native_map(name).splits for left in pair}
    for number, universal in enumerate(TEMPLATES[name], start=1):
        expected = (
            None
            if universal == 0
            else innermost("Universal-32", universal)
            if universal
            else "prostate_or_uterus"
        )
        if universal in UNSIDED and {f"{UNSIDED[universal]}_left"} & unsided:
            expected = UNSIDED[universal]
        assert innermost(name, number) == expected
    ids = {n for numbers in native_map(name).label_ids.values() for n in numbers}
    assert ids - BESIDE.get(name, set()) == {i for i, u in enumerate(TEMPLATES[name], start=1) if u != 0}


def test_universal_32_has_its_32_ids():
    found = native_map("Universal-32")
    assert sorted({n for ids in found.label_ids.values() for n in ids}) == list(range(1, 33))
    assert found.label_ids["liver_tumor"] == (27, 29)
    assert found.label_ids["kidney_tumor_left"] == found.label_ids["kidney_tumor_right"] == (26,)
    assert set(found.splits) == {
        ("kidney_tumor_left", "kidney_tumor_right"),
        ("kidney_cyst_left", "kidney_cyst_right"),
        ("lung_tumor_left", "lung_tumor_right"),
    }


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("TotalSegmentator v1", {"pancreas": 10, "aorta": 7, "bladder": 104, "face": 93, "vertebrae_C1": 41}),
        (
            "TotalSegmentator v2",
            {"pancreas": 7, "aorta": 52, "costal_cartilages": 117, "brain": 90, "skull": 91},
        ),
        ("TotalSegmentator MRI", {"vertebrae": 19, "aorta": 23, "brain": 50, "lung_right": 11}),
        ("AbdomenAtlas 1.0", {"aorta": 1, "kidney_left": 3, "stomach": 9}),
        (
            "AbdomenAtlas 1.1Mini",
            {"aorta": 1, "bladder": 12, "femur_right": 18, "intestine": 20, "rectum": 25},
        ),
        ("CHAOS MR", {"liver": 63, "kidney_right": 126, "kidney_left": 189, "spleen": 252}),
        ("Pancreas-CT", {"pancreas": 1}),
    ],
)
def test_ids_of_single_organs(name, ids):
    assert {organ: native_map(name).label_ids[organ] for organ in ids} == {o: (n,) for o, n in ids.items()}


def test_totalsegmentator_has_all_its_classes():
    for name, count in (
        ("TotalSegmentator v1", 104),
        ("TotalSegmentator v2", 117),
        ("TotalSegmentator MRI", 50),
    ):
        found = native_map(name)
        assert sorted(found.names) == list(range(1, count + 1))
        assert {n for ids in found.label_ids.values() for n in ids} == set(found.names)
        assert OTHER not in found.label_ids
    second = native_map("TotalSegmentator v2").label_ids
    assert {organ: second[organ] for organ in TOTALSEGMENTATOR_V2} == {
        organ: (number,) for organ, number in TOTALSEGMENTATOR_V2.items()
    }


def test_finer_classes_are_kept_and_merged():
    files = native_map("TotalSegmentator v2").masks()
    assert files["lung_upper_lobe_left"] == ("lung_upper_lobe_left.nii.gz",)
    assert files["lung_left"] == ("lung_upper_lobe_left.nii.gz", "lung_lower_lobe_left.nii.gz")
    assert len(files["lung"]) == 5
    assert files["gall_bladder"] == ("gallbladder.nii.gz",)
    assert len(files["vertebrae"]) == 24
    first = native_map("TotalSegmentator v1").masks(".nii")
    assert len(first["heart"]) == 5
    assert "heart" in native_map("TotalSegmentator v2").organs
    assert "heart_atrium_left" not in native_map("TotalSegmentator v2").organs
    assert native_map("AbdomenAtlas 1.1").masks()["kidney"] == ("kidney_left.nii.gz", "kidney_right.nii.gz")


def test_totalsegmentators_colon_has_the_rectum_in_it():
    for version in ("v1", "v2"):
        found = native_map(f"TotalSegmentator {version}")
        assert not {"colon", "rectum"} & set(found.organs)
        assert found.masks()["colon_and_rectum"] == ("colon.nii.gz",)
    assert native_map("WORD").label_ids["colon_and_rectum"] == (10, 13)


def test_what_a_release_does_not_annotate_is_not_declared():
    assert "duodenum" not in native_map("BTCV").organs
    assert not {"prostate", "uterus"} & set(native_map("AMOS").organs)
    assert not {"femur_left", "femur_right"} & set(native_map("WORD").organs)
    assert not {"kidney_cyst", "kidney_cyst_left"} & set(native_map("KiTS19").organs)
    assert native_map("CT-ORG").label_ids[OTHER] == (5,)
    assert native_map("MSD Prostate").organs == ("prostate",)


def test_kits_is_split_with_what_lies_in_the_kidneys():
    found = native_map("KiTS")
    assert found.label_ids["kidney_left"] == found.label_ids["kidney"] == (1,)
    assert set(found.splits) == {
        (f"{o}_left", f"{o}_right") for o in ("kidney", "kidney_tumor", "kidney_cyst")
    }


def test_a_tumour_without_its_organ_is_given_no_side():
    assert native_map("MSD Lung").organs == ("lung_tumor",)
    assert native_map("MSD Lung").splits == ()
    assert with_rules({"kidney_tumor": (1,)}) == {"kidney_tumor": (1,)}


def test_flare23_differs_from_case_to_case_and_has_tumours_of_any_organ():
    found = native_map("FLARE'23")
    assert found.partial
    assert found.label_ids["any_tumor"] == found.label_ids[UNKNOWN] == (14,)
    assert not native_map("FLARE22").partial
    assert native_map("FLARE22").organs == tuple(o for o in found.organs if o != "any_tumor")


def test_every_map_names_its_source_and_its_own_name():
    _, entries = read_documents(DEFAULT)
    names = [alias for name, entry in entries.items() for alias in (name, *entry.get("same", ()))]
    keys = ["".join(filter(str.isalnum, name.lower())) for name in names]
    assert len(set(keys)) == len(keys)
    assert known_maps() == list(entries)
    for name in entries:
        found = native_map(name)
        assert (found.name, bool(found.source)) == (name, True)
        assert set(found.organs) <= set(default_vocabulary().organs)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("KiTS22", "KiTS23"),
        ("TotalSegmentator", "TotalSegmentator v2"),
        ("AbdomenAtlas", "AbdomenAtlas 1.1"),
        ("FLARE", "FLARE22"),
    ],
)
def test_an_unknown_map_names_the_nearest(name, near):
    """Nor is a name known that leaves open which organs it annotates."""
    with pytest.raises(LifelongCTError) as error:
        native_map(name, "hospital north")
    assert repr(name) in error.value.what
    assert error.value.where == "hospital north"
    assert near in error.value.fix


@pytest.mark.parametrize("name", ["kits", "KITS-21", "msd_08", "Task08_HepaticVessel", "flare 2022"])
def test_case_and_punctuation_of_a_name_do_not_count(name):
    assert native_map(name).name in ("KiTS23", "MSD HepaticVessel", "FLARE22")


def test_an_own_map_follows_the_same_rules():
    found = own_map("mine", {"kidney": (2,), "lung_left": (3,), "lung_right": (4, 5), OTHER: (9,)})
    assert found.label_ids["kidney_right"] == (2,)
    assert found.label_ids["lung"] == (3, 4, 5)
    assert found.splits == (("kidney_left", "kidney_right"),)
    assert OTHER not in found.organs
    assert found.names == {}


def test_own_rules_change_no_organ_that_is_given():
    given = {"kidney": (1,), "kidney_left": (2,), "kidney_right": (3,), "lung": (4,)}
    found = with_rules(given)
    assert {organ: found[organ] for organ in given} == given
    assert with_rules(found) == found


def test_a_name_that_is_no_organ_needs_a_meaning():
    with pytest.raises(LifelongCTError) as error:
        map_of_names("mine", {"names": ["liver", "cancer"]})
    assert "'cancer'" in error.value.what
    assert "mine" in error.value.where


def test_a_folder_with_some_of_the_files():
    whole = native_map("TotalSegmentator v2")
    assert whole.only(whole.names.values()) == whole
    some = whole.only(["kidney_left", "colon", "lung_lower_lobe_left", "kidney_right"])
    assert some.masks() == {
        "kidney_right": ("kidney_right.nii.gz",),
        "kidney_left": ("kidney_left.nii.gz",),
        "lung_lower_lobe_left": ("lung_lower_lobe_left.nii.gz",),
        "colon_and_rectum": ("colon.nii.gz",),
        "kidney": ("kidney_left.nii.gz", "kidney_right.nii.gz"),
    }
    assert whole.meaning["small_bowel"] == "intestine"
    with pytest.raises(LifelongCTError) as error:
        whole.only(["heart_atrium_left"], "folder s0001")  # of v1
    assert error.value.where == "folder s0001"
    flare = native_map("FLARE23")
    assert flare.only(["liver", "tumor"]).label_ids[UNKNOWN] == (14,)
    assert UNKNOWN not in flare.only(["liver"]).label_ids
    assert native_map("CT-ORG").meaning["bones"] == OTHER
