"""What becomes of a partly annotated case when an old model tells the rest, against the rules written out by name."""

from itertools import combinations

import numpy as np
import pytest
from by_hand import candidates

from lifelong_ct.data.labels import IGNORE, PROTOCOL_BASE, LabelSpace

ORGANS = ["liver", "liver_tumor", "spleen", "stomach"]
WITHIN = {"liver_tumor": "liver"}
PROTOCOLS = [list(some) for n in range(5) for some in combinations(ORGANS, n)]


def space_of(*protocols: list[str]) -> LabelSpace:
    space = LabelSpace(ORGANS)
    space.see(ORGANS)
    for organs in protocols:
        space.encode_lut(organs)
    return space


def allowed(space: LabelSpace, code: int) -> set[int]:
    return set(np.flatnonzero(space.candidates()[code]).tolist())


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("annotated", PROTOCOLS, ids="-".join)
def test_a_told_voxel_may_be_what_case_and_model_leave_open(annotated: list[str], width: int) -> None:
    space = space_of(annotated)
    known = ORGANS[: width - 1]
    codes = space.encode_lut(annotated)
    table = space.completed(width)
    for label, code in zip([None, *annotated], codes, strict=True):
        before = candidates(label, annotated, ORGANS, WITHIN)
        assert allowed(space, code) == before
        for channel, told in enumerate([None, *known]):
            together = {*annotated, *known}
            after = candidates(told, together, ORGANS, WITHIN)
            expected = after if channel in before and code >= PROTOCOL_BASE else before
            assert allowed(space, table[code, channel]) == expected, (label, told)


def test_what_was_labelled_and_what_is_padding_stay() -> None:
    space = space_of(["spleen"])
    table = space.completed(5)
    for code in (0, 1, 2, 3, 4, IGNORE):
        assert (table[code] == code).all()


def test_nothing_is_left_to_complete_after_it() -> None:
    space = space_of(*PROTOCOLS)
    space.completed(3)
    protocols = list(space.protocols)
    again = space.completed(3)
    assert space.protocols == protocols
    told = np.unique(again)
    assert (again[told] == np.where(space.candidates()[told][:, :3], again[told], told[:, None])).all()


def test_the_literal_channel_of_every_code() -> None:
    space = space_of(["liver"], ["spleen", "stomach"])
    liver, other = (space.encode_lut(organs) for organs in (["liver"], ["spleen", "stomach"]))
    literal = space.literal()
    assert liver[1] >= PROTOCOL_BASE, "a tumour may hide in it"
    assert literal[liver].tolist() == [0, 1]
    assert literal[other].tolist() == [0, 3, 4]
    assert literal[[0, 1, 2, 3, 4, IGNORE]].tolist() == [0, 1, 2, 3, 4, -1]
