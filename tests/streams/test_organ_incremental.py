"""Protocols per hospital on a list of cases."""

import pytest
from listed import ALL, content, entry, given

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.streams.organ_incremental import OrganIncremental

PROTOCOLS = {"a": ["liver"], "b": ["spleen", "liver"], "c": ["aorta"]}


def made(*names, protocols=PROTOCOLS, **more):
    hospitals = [entry(name, train=[ALL, ("liver", "spleen")]) for name in names or "abc"]
    return OrganIncremental(hospitals=hospitals, protocols=protocols, **given(**more))


def test_training_cases_follow_the_protocol_and_test_cases_keep_everything():
    stream = made()
    assert content(stream) == [
        ("a", [("a", [("0", ("liver",)), ("1", ("liver",))])]),
        ("b", [("b", [("0", ("liver", "spleen")), ("1", ("liver", "spleen"))])]),
        ("c", [("c", [("0", ("aorta",))])]),
    ]
    assert {case.organs for hospital in stream.scored for case in hospital.test} == {ALL}
    assert [experience.task for experience in stream.experiences] == [
        Task(("a",), ("liver",)), Task(("b",), ("liver", "spleen")), Task(("c",), ("aorta",)),
    ]  # fmt: skip


def test_a_protocol_goes_with_its_hospital_in_any_order():
    stream = made(order=["c", "a"])
    assert [(e.name, e.task.organs) for e in stream.experiences] == [("c", ("aorta",)), ("a", ("liver",))]
    assert [e.name for e in made(first=2).experiences] == ["a", "b"]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"protocols": {"a": ["liver"]}}, "no organs for the hospital b"),
        ({"protocols": {**PROTOCOLS, "a": ["kidney_left"]}}, "does not have kidney_left"),
        ({"protocols": {**PROTOCOLS, "a": ["livre"]}}, "livre"),
        ({"protocols": []}, "no organs for the hospital a"),
        ({"first": 4}, "4 of 3"),
        ({"first": 0}, "0 hospitals"),
    ],
)
def test_mistakes(more, word):
    with pytest.raises(LifelongCTError, match=word):
        made(**more)


def test_a_protocol_that_no_case_can_follow_is_an_experience_without_cases():
    hospitals = [entry("a", train=[("spleen",)])]
    with pytest.raises(LifelongCTError, match="no training case for the experience 'a'"):
        OrganIncremental(hospitals=hospitals, protocols={"a": ["liver"]}, **given())
