"""Sequential, disjoint and overlap on a list of cases."""

import pytest
from listed import ALL, content, entry, given

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.streams.class_disjoint import ClassDisjoint
from lifelong_ct.streams.class_overlap import ClassOverlap
from lifelong_ct.streams.class_sequential import ClassSequential
from lifelong_ct.streams.classes import each_once

STEPS = {"one": ["liver", "spleen"], "two": ["aorta"], "three": ["pancreas"]}
SCENARIOS = (ClassSequential, ClassDisjoint, ClassOverlap)


def made(kind, *hospitals, **more):
    return kind(hospitals=list(hospitals), classes=STEPS, **given(**more))


def test_overlap_has_every_case_in_every_step_with_the_new_organs_only():
    stream = made(ClassOverlap, entry("a", train=[ALL, ("liver", "aorta"), ("pancreas",)]))
    assert content(stream) == [
        ("one", [("a", [("0", ("liver", "spleen")), ("1", ("liver",))])]),
        ("two", [("a", [("0", ("aorta",)), ("1", ("aorta",))])]),
        ("three", [("a", [("0", ("pancreas",)), ("2", ("pancreas",))])]),
    ]
    assert [h.shown for e in stream.experiences for h in e.hospitals] == [
        ("liver", "spleen"), ("aorta",), ("pancreas",),
    ]  # fmt: skip


def test_disjoint_has_each_case_once_with_the_new_organs_only():
    stream = made(ClassDisjoint, entry("a", train=[ALL] * 6))
    rows = content(stream)
    numbers = [number for _, hospitals in rows for _, cases in hospitals for number, _ in cases]
    assert sorted(numbers) == list("012345")
    assert [len(cases) for _, [(_, cases)] in rows] == [2, 2, 2]
    assert [{organs for _, organs in cases} for _, [(_, cases)] in rows] == [
        {("liver", "spleen")}, {("aorta",)}, {("pancreas",)},
    ]  # fmt: skip
    assert all(not hospital.shown for e in stream.experiences for hospital in e.hospitals)


def test_sequential_has_the_cases_of_disjoint_with_old_organs_too():
    hospital = entry("a", train=[ALL] * 6)
    sequential, disjoint = (content(made(kind, hospital)) for kind in (ClassSequential, ClassDisjoint))
    for (_, [(_, old)]), (_, [(_, new)]) in zip(sequential, disjoint, strict=True):
        assert [number for number, _ in old] == [number for number, _ in new]
    assert [cases[0][1] for _, [(_, cases)] in sequential] == [
        ("liver", "spleen"),
        ("aorta", "liver", "spleen"),
        ALL,
    ]


def test_a_case_is_dealt_to_a_step_whose_organs_it_annotates():
    """The case without liver and spleen can teach in the second step only, the last one in the third."""
    cases = made(ClassOverlap, entry("a", train=[ALL, ALL, ("aorta",), ("pancreas",)])).hospitals[0].train
    steps = [frozenset(organs) for organs in STEPS.values()]
    for seed in range(20):
        dealt = [[case.id.rpartition("-")[2] for case in own] for own in each_once(cases, steps, seed)]
        assert "2" in dealt[1]
        assert "3" in dealt[2]
        assert sorted(number for own in dealt for number in own) == list("0123")
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_another_seed_deals_otherwise_and_the_same_seed_alike():
    hospital = entry("a", train=[ALL] * 9)
    first, same = (content(made(ClassDisjoint, hospital)) for _ in range(2))
    assert first == same
    assert any(content(made(ClassDisjoint, hospital, seed=seed)) != first for seed in (1, 2, 3))


@pytest.mark.parametrize("kind", SCENARIOS)
def test_tests_keep_every_organ_and_the_tasks_are_what_is_new(kind):
    stream = made(kind, entry("a", train=[ALL] * 3), entry("b", train=[ALL] * 3, test=[]))
    assert [case.organs for hospital in stream.scored for case in hospital.test] == [ALL]
    assert [experience.task for experience in stream.experiences] == [
        Task(("a",), ("liver", "spleen")), Task(("a",), ("aorta",)), Task(("a",), ("pancreas",)),
    ]  # fmt: skip
    assert [[h.name for h in e.hospitals] for e in stream.experiences] == [["a", "b"]] * 3


@pytest.mark.parametrize("kind", SCENARIOS)
def test_order_and_first_are_of_the_steps_and_limit_counts_in_each(kind):
    hospital = entry("a", train=[ALL] * 9, test=[ALL] * 3)
    stream = made(kind, hospital, order=["three", "one", "two"], first=2, limit=1)
    assert [name for name, _ in content(stream)] == ["three", "one"]
    assert [len(cases) for _, [(_, cases)] in content(stream)] == [1, 1]
    assert len(stream.hospitals[0].test) == 1


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"classes": {"one": ["liver"]}}, "aorta, pancreas, spleen"),
        ({"classes": {**STEPS, "four": ["liver"]}}, "new in one step: liver"),
        ({"classes": {**STEPS, "four": []}}, "a step has none"),
        ({"classes": {**STEPS, "four": ["kidney_left"]}}, "kidney_left"),
        ({"classes": []}, "classes="),
        ({"classes": STEPS, "order": ["five"]}, "no step 'five'"),
        ({"classes": STEPS, "first": 0}, "0 steps"),
        ({"classes": STEPS, "first": 4}, "4 of 3 steps"),
    ],
)
def test_mistakes(more, word):
    with pytest.raises(LifelongCTError, match=word):
        ClassOverlap(hospitals=[entry("a")], **{**given(), **more})


def test_a_step_without_a_case_is_named():
    with pytest.raises(LifelongCTError, match="'three'"):
        made(ClassDisjoint, entry("a", train=[ALL] * 2))
