"""Parts of hospitals, and what they are together."""

from dataclasses import replace
from pathlib import Path

from listed import ALL, entry, given

from lifelong_ct.streams.domain_incremental import DomainIncremental
from lifelong_ct.streams.parts import annotating, merged, part, unannotated

TWO = DomainIncremental(hospitals=[entry("a", train=[ALL] * 3), entry("b")], **given())
A, B = TWO.hospitals


def organs(hospital):
    return [(case.id, case.organs) for case in hospital.train]


def test_whole_hospitals_stay_as_they_are():
    assert merged([A, B]) == (A, B)


def test_a_case_of_several_parts_is_there_once_with_everything_annotated():
    first = part(A, "1", [annotating(case, {"liver"}) for case in A.train[:2]])
    second = part(A, "2", [annotating(case, {"spleen", "aorta"}) for case in A.train[1:]])
    both, other = merged([first, B, second])
    assert organs(both) == [
        ("a-train-0", ("liver",)),
        ("a-train-1", ("liver", "aorta", "spleen")),
        ("a-train-2", ("aorta", "spleen")),
    ]
    assert other is B
    assert len({hospital.key for hospital in (first, second, both, A)}) == 4


def test_a_scan_alone_gets_the_labels_of_another_part():
    case = replace(A.train[0], label=Path("label.nii"), label_ids={"liver": (1,)})
    bare = unannotated(case)
    assert (bare.organs, bare.label, bare.label_ids, bare.files) == ((), None, {}, ())
    for parts in ((case, bare), (bare, case)):
        (both,) = merged(part(A, str(i), [one]) for i, one in enumerate(parts))
        assert both.train == (case,)


def test_only_parts_that_all_need_a_voxel_need_one_together():
    one, two, free = (part(A, str(i), A.train, shown) for i, shown in enumerate((["liver"], ["aorta"], [])))
    assert merged([one, two])[0].shown == ("liver", "aorta")
    assert merged([one, free])[0].shown == ()
