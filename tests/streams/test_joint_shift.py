"""Classes and domains at once, with a share of labels."""

import pytest
from listed import ALL, content, entry, given

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.streams.joint_shift import JointShift, share_of

PROTOCOLS = {"a": ["liver"], "b": ["spleen", "aorta"]}


def made(fraction, protocols=PROTOCOLS, **more):
    hospitals = [entry(name, train=[ALL] * 8) for name in "ab"]
    return JointShift(hospitals=hospitals, protocols=protocols, label_fraction=fraction, **given(**more))


def labelled(stream):
    return [{n for n, organs in cases if organs} for _, [(_, cases)] in content(stream)]


def test_every_hospital_teaches_organs_of_its_own():
    assert [{organs for _, organs in cases} for _, [(_, cases)] in content(made(1))] == [
        {("liver",)}, {("aorta", "spleen")},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fraction", "count"), [(0, 0), (0.01, 1), (0.25, 2), (0.5, 4), (0.56, 4), (0.57, 5), (1.0, 8)]
)
def test_a_share_of_the_cases_keeps_its_labels_and_the_others_come_as_scans(fraction, count):
    stream = made(fraction)
    assert list(map(len, labelled(stream))) == [count, count]
    for _, [(_, cases)] in content(stream):
        assert [number for number, _ in cases] == list("01234567")
    unlabelled = [c for e in stream.experiences for h in e.hospitals for c in h.train if not c.organs]
    assert all(case.label is None and not case.masks and not case.label_ids for case in unlabelled)


def test_a_larger_share_has_the_cases_of_a_smaller_one():
    few, many = labelled(made(0.25)), labelled(made(0.75))
    assert all(small < large for small, large in zip(few, many, strict=True))
    assert any(labelled(made(0.25, seed=seed)) != few for seed in (1, 2, 3))


def test_halves_are_rounded_upwards():
    assert [share_of(3, 0.5), share_of(5, 0.5), share_of(1, 0.5), share_of(0, 0.5)] == [2, 3, 1, 0]


@pytest.mark.parametrize(
    ("fraction", "more", "word"),
    [
        (1.5, {}, "share of the cases"),
        (-0.1, {}, "share of the cases"),
        ("half", {}, "share of the cases"),
        (True, {}, "share of the cases"),
        (1, {"protocols": {"a": ["liver"], "b": ["liver"]}}, "two hospitals teach liver"),
    ],
)
def test_mistakes(fraction, more, word):
    with pytest.raises(LifelongCTError, match=word):
        made(fraction, **more)
