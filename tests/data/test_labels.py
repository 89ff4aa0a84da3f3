"""How a stream codes its organs, by hand."""

import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import IGNORE, PROTOCOL_BASE, LabelSpace, default_vocabulary


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

    def test_overlaps_are_coded_as_the_innermost_and_what_nobody_knows_as_ignored(self) -> None:
        space = LabelSpace(["liver", "liver_tumor", "spleen"])
        # local ids: 1 spleen, 2 liver, 3 tumour, 4 liver and tumour, 5 nobody knows
        lut = space.encode_lut(["spleen", "liver", "liver_tumor"], [(1, 2), ()])
        assert lut.tolist() == [0, 3, 1, 2, 2, IGNORE]
        assert lut.dtype == np.uint8

    def test_overlaps_of_a_partially_annotated_case(self) -> None:
        space = LabelSpace(["liver", "liver_tumor", "hepatic_vessel", "spleen"])
        space.see(space.organs)
        lut = space.encode_lut(["liver", "hepatic_vessel"], [(0, 1)])
        table = space.candidates()
        shown = [set(np.flatnonzero(table[code]).tolist()) for code in lut]
        liver, tumor, vessel, spleen = (space.channel(o) for o in space.organs)
        assert shown == [{0, spleen}, {liver, tumor}, {vessel}, {vessel}]
        with pytest.raises(LifelongCTError, match="without containment"):
            space.encode_lut(["liver", "spleen"], [(0, 1)])

    def test_an_organ_whose_side_is_not_told_may_be_on_either(self) -> None:
        space = LabelSpace(["kidney", "kidney_left", "kidney_right", "spleen"])
        space.see(space.organs)
        outside, kidney = space.encode_lut(["kidney"])
        table = space.candidates()
        assert table[kidney].tolist() == [False, True, True, True, False]
        assert table[outside].tolist() == [True, False, False, False, True]

    def test_what_lies_deep_inside_is_found_over_organs_that_the_stream_does_not_have(self) -> None:
        space = LabelSpace(["lung", "lung_upper_lobe_left", "spleen"])
        assert space.inside("lung") == ["lung_upper_lobe_left"]
        space.see(space.organs)
        lung = space.encode_lut(["lung"])[1]
        assert space.candidates()[lung].tolist() == [False, True, True, False]

    def test_an_annotated_organ_in_between_closes_what_lies_inside_it(self) -> None:
        space = LabelSpace(["kidney", "kidney_tumor", "kidney_tumor_left", "kidney_tumor_right"])
        space.see(space.organs)
        outside, kidney, tumor = space.encode_lut(["kidney", "kidney_tumor"])
        table = space.candidates()
        assert table[kidney].tolist() == [
            False,
            True,
            False,
            False,
            False,
        ]  # else it would be labelled tumour
        assert table[tumor].tolist() == [False, False, True, True, True]
        assert table[outside].tolist() == [True, False, False, False, False]

    def test_a_tumour_of_any_organ_may_hide_in_each_and_beside_them(self) -> None:
        space = LabelSpace(["liver", "spleen", "any_tumor"])
        space.see(space.organs)
        outside, liver, spleen = space.encode_lut(["liver", "spleen"])
        table = space.candidates()
        assert table[outside].tolist() == [True, False, False, True]
        assert table[liver].tolist() == [False, True, False, True]
        assert table[spleen].tolist() == [False, False, True, True]
        assert space.encode_lut(space.organs).tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("organs", "missing"),
        [
            (["kidney_left", "kidney_right", "kidney_tumor"], "kidney_tumor_left and kidney_tumor_right"),
            (["lung_right", "lung_tumor"], "lung_tumor_right and lung_tumor_left"),
        ],
    )
    def test_organs_that_overlap_in_one_that_is_not_listed_are_refused(self, organs, missing) -> None:
        with pytest.raises(LifelongCTError) as error:
            LabelSpace(organs)
        assert missing in error.value.fix
        LabelSpace([*organs, *missing.split(" and ")])
