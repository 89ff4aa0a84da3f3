"""Names, sides and containment of organs."""

from pathlib import Path

import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.vocabulary import Vocabulary, default_vocabulary

ABDOMEN_ATLAS_1_1 = [
    "aorta",
    "gall_bladder",
    "kidney_left",
    "kidney_right",
    "liver",
    "pancreas",
    "postcava",
    "spleen",
    "stomach",
    "adrenal_gland_left",
    "adrenal_gland_right",
    "bladder",
    "celiac_trunk",
    "colon",
    "duodenum",
    "esophagus",
    "femur_left",
    "femur_right",
    "hepatic_vessel",
    "intestine",
    "lung_left",
    "lung_right",
    "portal_vein_and_splenic_vein",
    "prostate",
    "rectum",
]
UNMIRRORED = [
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
    "heart_atrium_left",
    "heart_ventricle_left",
    "heart_atrium_right",
    "heart_ventricle_right",
    "atrial_appendage_left",
]


@pytest.mark.parametrize(
    ("name", "organ"),
    [
        ("liver", "liver"),
        ("Gallbladder", "gall_bladder"),
        ("inferior vena cava", "postcava"),
        ("urinary_bladder", "bladder"),
        ("small-bowel", "intestine"),
        ("celiac_truck", "celiac_trunk"),
        (" Left Kidney ", "kidney_left"),
        ("liver_tumour", "liver_tumor"),
        ("vertebrae_L5", "vertebrae_L5"),
        ("vertebrae_l5", "vertebrae_L5"),
        ("Head_of_femur_R", "femur_head_right"),
        ("arota", "aorta"),
    ],
)
def test_aliases(name, organ):
    assert default_vocabulary().canonical(name) == organ


@pytest.mark.parametrize(
    ("name", "near"), [("livr", "liver"), ("tumor", "kidney_tumor"), ("T12", "vertebrae_t12")]
)
def test_an_unknown_organ_names_the_nearest(name, near):
    with pytest.raises(LifelongCTError) as error:
        default_vocabulary().canonical(name, "manifest.json")
    assert repr(name) in error.value.what
    assert error.value.where == "manifest.json"
    assert near in error.value.fix


def test_a_bare_tumour_is_no_organ():
    """It may be any: of a kidney in KiTS, of a liver in LiTS."""
    for name in ("tumor", "cancer", "cyst", "lesion"):
        with pytest.raises(LifelongCTError):
            default_vocabulary().canonical(name)


def test_what_ships_is_consistent():
    vocabulary = default_vocabulary()
    assert list(vocabulary.organs[:25]) == ABDOMEN_ATLAS_1_1
    for one, other in vocabulary.mirror.items():
        assert vocabulary.mirror[other] == one != other
        words = [set(name.split("_")) for name in (one, other)]
        assert words[0] ^ words[1] == {"left", "right"}
    sided = {organ for organ in vocabulary.organs if {"left", "right"} & set(organ.split("_"))}
    assert sided == {*vocabulary.mirror, *UNMIRRORED}
    for left, right in vocabulary.sides.values():
        assert vocabulary.mirror[left] == right
        assert "left" in left.split("_")


def test_containment_of_mirrored_organs_is_mirrored():
    vocabulary = default_vocabulary()
    for organ, other in vocabulary.mirror.items():
        lobes = {o for o in vocabulary.containers[organ] if o in UNMIRRORED}
        assert not lobes
        mirrored = {vocabulary.mirror.get(o, o) for o in vocabulary.containers[organ]}
        assert mirrored == vocabulary.containers[other]


@pytest.mark.parametrize(
    ("inner", "containers"),
    [
        ("liver_tumor", {"liver"}),
        ("hepatic_vessel", {"liver"}),
        ("kidney_tumor_left", {"kidney_left", "kidney_tumor", "kidney"}),
        ("kidney_cyst_right", {"kidney_right", "kidney_cyst", "kidney"}),
        ("kidney_tumor", {"kidney"}),
        ("lung_upper_lobe_left", {"lung_left", "lung"}),
        ("lung_tumor", {"lung"}),
        ("lung_tumor_left", {"lung_tumor", "lung_left", "lung"}),
        ("rectum", {"colon_and_rectum"}),
        ("colon_tumor", {"colon", "colon_and_rectum"}),
        ("uterus", {"prostate_or_uterus"}),
        ("vertebrae_S1", {"sacrum"}),
        ("heart_atrium_left", {"heart"}),
        ("spleen", set()),
    ],
)
def test_what_lies_in_what(inner, containers):
    vocabulary = default_vocabulary()
    assert vocabulary.containers[inner] == containers
    assert {o for o in vocabulary.organs if vocabulary.contains(o, inner)} == {inner, *containers}


def test_the_innermost():
    vocabulary = default_vocabulary()
    assert (
        vocabulary.innermost(["kidney", "kidney_tumor_left", "kidney_left", "kidney_tumor"])
        == "kidney_tumor_left"
    )
    assert vocabulary.innermost(["kidney_left", "kidney_tumor"]) is None
    assert vocabulary.innermost(["spleen"]) == "spleen"


def test_an_own_vocabulary(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("heart: {aliases: [cor]}\nvalve: {within: heart}\n")
    vocabulary = Vocabulary(tmp_path / "mine.yaml")
    assert vocabulary.canonical("COR") == "heart"
    assert vocabulary.containers == {"heart": frozenset(), "valve": {"heart"}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("heart: {aliases: [cor]}\nlung: {aliases: [Cor]}", "stands for heart and for lung"),
        ("valve: {within: heart}", "'heart', which is none"),
        ("lung: {sides: [left, right]}\nleft: {}", "'right', which is none"),
        ("a: {within: b}\nb: {parts: [c]}\nc: {}\nd: {within: a, parts: [b]}", "lies in itself"),
    ],
)
def test_an_own_vocabulary_that_contradicts_itself(tmp_path, text, told):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(LifelongCTError) as error:
        Vocabulary(tmp_path / "mine.yaml")
    assert told in error.value.what
    assert error.value.where == "mine.yaml"
