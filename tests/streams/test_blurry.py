"""Shares of other hospitals' cases on a list of cases."""

import pytest
from listed import ALL, content, entry, given

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.streams.blurry import Blurry


def made(share, names="abc", cases=8, **more):
    return Blurry(hospitals=[entry(n, train=[ALL] * cases) for n in names], share=share, **given(**more))


def test_a_quarter_of_each_hospital_comes_with_the_others():
    stream = made(0.25)
    rows = content(stream)
    assert [name for name, _ in rows] == list("abc")
    for name, hospitals in rows:
        assert hospitals[0][0] == name, "its own come first"
        assert [len(cases) for _, cases in hospitals] == [6, 1, 1]
    every = [
        (hospital, number) for _, hospitals in rows for hospital, cases in hospitals for number, _ in cases
    ]
    assert sorted(every) == [(name, number) for name in "abc" for number in "01234567"]
    assert [experience.task for experience in stream.experiences] == [Task((n,)) for n in "abc"]


def test_without_a_share_it_is_domain_incremental():
    assert [[len(c) for _, c in hospitals] for _, hospitals in content(made(0))] == [[8], [8], [8]]
    assert [len(c) for _, [(_, c)] in content(made(0, "a"))] == [8]


def test_the_guests_follow_from_the_seed():
    assert content(made(0.25)) == content(made(0.25))
    assert any(content(made(0.25, seed=seed)) != content(made(0.25)) for seed in (1, 2, 3))


def test_a_mixed_experience_may_keep_what_the_strictest_allows():
    hospitals = [entry("a", train=[ALL] * 4), entry("b", train=[ALL] * 4, sharing="forbid")]
    assert [e.sharing for e in Blurry(hospitals=hospitals, share=0.5, **given()).experiences] == [
        "forbid"
    ] * 2
    assert [e.sharing for e in Blurry(hospitals=hospitals, share=0, **given()).experiences] == [
        "patches",
        "forbid",
    ]


@pytest.mark.parametrize("share", [1, -0.1, "half", True])
def test_mistakes(share):
    with pytest.raises(LifelongCTError, match="share="):
        made(share)
    with pytest.raises(LifelongCTError, match="one hospital has no other"):
        made(0.5, "a")
