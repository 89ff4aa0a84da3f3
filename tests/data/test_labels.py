from pathlib import Path

import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import IGNORE, PROTOCOL_BASE, LabelSpace, Vocabulary, default_vocabulary

ABDOMEN_ATLAS_1_0 = [
    "aorta",
    "gall_bladder",
    "kidney_left",
    "kidney_right",
    "liver",
    "pancreas",
    "postcava",
    "spleen",
    "stomach",
]


class TestVocabulary:
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
        ],
    )
    def test_aliases(self, name: str, organ: str) -> None:
        assert default_vocabulary().canonical(name) == organ

    def test_an_unknown_organ_names_the_nearest(self) -> None:
        with pytest.raises(LifelongCTError) as error:
            default_vocabulary().canonical("livr", "manifest.json")
        assert "'livr'" in error.value.what
        assert error.value.where == "manifest.json"
        assert "liver" in error.value.fix

    def test_what_ships_is_consistent(self) -> None:
        vocabulary = default_vocabulary()
        assert list(vocabulary.organs[:9]) == ABDOMEN_ATLAS_1_0
        for one, other in vocabulary.mirror.items():
            assert vocabulary.mirror[other] == one
            assert {one.rpartition("_")[2], other.rpartition("_")[2]} == {"left", "right"}
        assert set(vocabulary.parent.values()) <= set(vocabulary.organs)
        sided = {o for o in vocabulary.organs if o.endswith(("_left", "_right"))}
        assert sided == set(vocabulary.mirror)

    def test_an_own_vocabulary(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text("heart: {aliases: [cor]}\nvalve: {within: heart}\n")
        vocabulary = Vocabulary(tmp_path / "mine.yaml")
        assert (vocabulary.canonical("COR"), vocabulary.parent) == ("heart", {"valve": "heart"})


class TestLabelSpace:
    def test_channels_follow_the_first_appearance(self) -> None:
        space = LabelSpace(["liver", "spleen", "aorta", "Gallbladder"])
        assert space.organs == ("liver", "spleen", "aorta", "gall_bladder")
        space.see(["spleen"])
        space.see(["gall_bladder", "aorta", "spleen"])
        assert space.channels == ["spleen", "aorta", "gall_bladder"]
        assert (space.width, space.channel("aorta"), space.channel("liver")) == (4, 2, None)

    @pytest.mark.parametrize("organs", [[], ["nonsense"]])
    def test_organs_of_a_stream_are_checked(self, organs: list[str]) -> None:
        with pytest.raises(LifelongCTError) as error:
            LabelSpace(organs)
        assert error.value.where == "stream.organs"

    def test_an_organ_of_another_stream_is_refused(self) -> None:
        with pytest.raises(LifelongCTError, match="'aorta'"):
            LabelSpace(["liver"]).encode_lut(["aorta"])

    def test_a_case_that_annotates_everything_has_plain_codes(self) -> None:
        space = LabelSpace(["liver", "spleen"])
        lut = space.encode_lut(["spleen", "liver"])  # local ids 1 spleen, 2 liver; channels in stream order
        assert lut.tolist() == [0, 2, 1]
        assert lut.dtype == np.uint8
        assert not space.protocols

    def test_an_unlabelled_voxel_of_a_partial_case_says_what_was_looked_for(self) -> None:
        space = LabelSpace(["liver", "spleen", "aorta"])
        assert space.encode_lut(["liver"]).tolist() == [PROTOCOL_BASE, 1]
        assert space.encode_lut(["aorta", "liver"]).tolist() == [PROTOCOL_BASE + 1, 2, 1]
        assert space.encode_lut(["liver"]).tolist() == [PROTOCOL_BASE, 1]
        table = space.candidates()
        assert table[PROTOCOL_BASE].tolist() == [True, False, True]  # background or aorta
        assert table[PROTOCOL_BASE + 1].tolist() == [True, False, False]
        space.see(["spleen"])
        table = space.candidates()
        assert table[PROTOCOL_BASE].tolist() == [True, False, True, True]
        assert table[PROTOCOL_BASE + 1].tolist() == [True, False, False, True]
        assert table[IGNORE].all()
        assert table[2].tolist() == [False, False, True, False]
        assert space.candidates(2).shape[1] == 2

    def test_a_case_without_annotation_may_be_anything(self) -> None:
        space = LabelSpace(["liver", "spleen"])
        space.see(["liver", "spleen"])
        (code,) = space.encode_lut([])
        assert space.candidates()[code].all()

    def test_an_organ_may_hold_what_was_not_annotated_inside_it(self) -> None:
        space = LabelSpace(["liver", "liver_tumor", "hepatic_vessel", "spleen"])
        space.see(space.organs)
        liver, tumor, vessel, spleen = (space.channel(o) for o in space.organs)
        code = space.encode_lut(["liver", "hepatic_vessel", "spleen"])
        table = space.candidates()

        def channels(k: int) -> set[int]:
            return set(np.flatnonzero(table[code[k]]).tolist())

        assert channels(1) == {liver, tumor}  # labelled liver: the tumour may hide there
        assert channels(2) == {vessel}
        assert channels(3) == {spleen}
        assert channels(0) == {0}  # outside the liver there is no tumour of it

    def test_a_tumour_without_its_organ_leaves_the_organ_open(self) -> None:
        space = LabelSpace(["liver", "liver_tumor"])
        space.see(space.organs)
        outside, inside = space.encode_lut(["liver_tumor"])
        assert space.candidates()[outside].tolist() == [True, True, False]
        assert inside == 2

    def test_codes_widen_after_95_protocols_and_old_ones_stay(self) -> None:
        space = LabelSpace(default_vocabulary().organs[:8])
        first = space.encode_lut([space.organs[0]])
        luts = []
        for mask in range(1, 98):
            luts.append(space.encode_lut([o for i, o in enumerate(space.organs) if mask >> i & 1]))
        codes = [int(lut[0]) for lut in luts]
        assert codes == [*range(PROTOCOL_BASE, IGNORE), 256, 257]
        assert [lut.dtype for lut in (luts[94], luts[95])] == [np.uint8, np.uint16]
        assert space.encode_lut([space.organs[0]]).tolist() == first.tolist()
        table = space.candidates()
        assert len(table) > 257
        assert table[257].tolist() == [True, *(not 97 >> i & 1 for i in range(len(space.channels)))]
        assert table[IGNORE].all()

    def test_state_there_and_back(self) -> None:
        space = LabelSpace(["liver", "liver_tumor", "spleen"])
        space.encode_lut(["spleen"])
        space.encode_lut(["liver"])
        copy = LabelSpace(["liver", "liver_tumor", "spleen"])
        copy.load_state_dict(space.state_dict())
        assert copy.channels == ["spleen", "liver"]
        assert np.array_equal(copy.candidates(), space.candidates())
        assert np.array_equal(copy.encode_lut(["liver"]), space.encode_lut(["liver"]))
        assert copy.state_dict() == space.state_dict()

    def test_a_state_of_another_stream_is_refused(self) -> None:
        space = LabelSpace(["liver"])
        with pytest.raises(LifelongCTError, match="spleen"):
            space.load_state_dict(LabelSpace(["spleen"]).state_dict())
        assert space.channels == []
