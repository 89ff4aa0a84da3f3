"""Cases of a hospital as a stream sees them."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.streams.hospital import open_hospital

SPACE = LabelSpace(["liver", "spleen"])
ALL = ("aorta", "liver", "spleen")


class Listed:
    """Cases with the organs of `annotated` in turn; every third is for testing."""

    def __init__(self, hospital: str, annotated: list[tuple[str, ...]]) -> None:
        self.hospital, self.annotated = hospital, annotated

    def cases(self) -> Iterator[Case]:
        for i, organs in enumerate(self.annotated):
            name = f"{self.hospital}-{i}"
            yield Case(self.hospital, name, name, "test" if i % 3 == 2 else "train", organs)


def opened(*annotated: tuple[str, ...], limit: int | None = None):
    return open_hospital(
        {"name": "n", "layout": f"{__name__}:Listed", "annotated": list(annotated)}, SPACE, limit
    )


def test_cases_keep_the_organs_that_the_stream_learns_in_their_own_order():
    hospital = opened(ALL, ("aorta",), ("spleen", "liver"))
    assert [(case.id, case.organs) for case in hospital.train] == [("n-0", ("liver", "spleen"))]
    assert [case.organs for case in hospital.test] == [("spleen", "liver")]


def test_the_limit_counts_cases_that_are_left():
    hospital = opened(("aorta",), ALL, ALL, ALL, ALL, ALL, limit=2)
    assert [case.id for case in hospital.train] == ["n-1", "n-3"]
    assert [case.id for case in hospital.test] == ["n-2", "n-5"]


def test_what_is_left_of_the_organs_is_held_once():
    first, *others = opened(*([ALL] * 30)).train
    assert all(case.organs is first.organs for case in others)


def test_no_case_at_all_is_an_error():
    with pytest.raises(LifelongCTError, match="no cases"):
        opened()


def test_a_case_is_small():
    """No dict of its own, and none for what it does not have."""
    one, other = Case("h", "a", "a", "train", ALL), replace(Case("h", "b", "b", "test", ALL), organs=())
    assert not hasattr(one, "__dict__")
    assert one.masks is one.label_ids is one.params is other.masks
