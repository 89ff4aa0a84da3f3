"""Steps of a round, by hand."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hospitals import options, stream
from listed import ALL, entry, given

from lifelong_ct.core.errors import LifelongCTError, Refused
from lifelong_ct.streams.class_overlap import ClassOverlap
from lifelong_ct.training.options import DataOptions, Requires, TrainerOptions
from lifelong_ct.training.rounds import one_pass_steps, rounds

JOINT = Requires(past_data=True, reinitialise=True)


def made(tmp_path, k=6, batch=2, accumulate=2, requires=None, cases=(2, 4)):
    opened = stream(*({"name": name, "train": [16] * n} for name, n in zip("abc", cases, strict=False)))
    trainer = TrainerOptions(
        partial(torch.optim.SGD, lr=1.0), steps=7, batch_size=batch, accumulate=accumulate
    )
    data = DataOptions(schedule="one_pass", patches_per_case=k)
    return options(opened, tmp_path, trainer=trainer, data=data, requires=requires or Requires())


def test_steps_of_one_pass_are_patches_over_patches_per_step(tmp_path):
    opts = made(tmp_path)
    assert [row.steps for row in rounds(opts)] == [2 * 6 // 4, 4 * 6 // 4]
    assert [row.steps for row in rounds(replace(opts, data=DataOptions()))] == [7, 7]


def test_joint_training_passes_once_over_everything(tmp_path):
    opts = made(tmp_path, requires=JOINT)
    assert [(row.after, row.steps) for row in rounds(opts)] == [(2, 6 * 6 // 4)]
    assert [row.steps for row in rounds(replace(opts, data=DataOptions()))] == [14]


def test_a_strategy_that_trains_on_past_hospitals_again_cannot_pass_once(tmp_path):
    with pytest.raises(Refused, match="trains on past hospitals again") as error:
        rounds(made(tmp_path, requires=Requires(past_data=True)))
    assert error.value.where == "data.schedule"
    alone = rounds(made(tmp_path, requires=Requires(past_data=True), cases=(2,)))
    assert [row.steps for row in alone] == [3], "with one hospital there is no past"


def test_a_strategy_that_holds_patches_out_cannot_pass_once(tmp_path):
    """With one hospital neither: its own cases are closed when it has been learnt."""
    for cases in ((2, 4), (2,)):
        opts = made(tmp_path, requires=Requires(held_out=True), cases=cases)
        with pytest.raises(Refused, match="reads patches that it does not train on") as error:
            rounds(opts)
        assert error.value.where == "strategy.requires, data.schedule"
        assert rounds(replace(opts, data=DataOptions()))


@pytest.mark.parametrize(
    ("cases", "k", "fits"),
    [
        ((3, 5), 6, 8),  # steps of 4 patches: 18 and 30 are no multiples, 24 and 40 are
        ((2, 4), 5, 6),  # 10 is none, 12 and 24 are
        ((2, 3), 2, 4),  # 4 is one, 6 is none; 8 and 12 are
        ((6, 2), 1, 2),
    ],
)
def test_a_step_that_is_not_whole_is_refused_with_a_number_that_suits_every_hospital(
    tmp_path, cases, k, fits
):
    opts = made(tmp_path, k=k, cases=cases)
    with pytest.raises(LifelongCTError, match="no whole number") as error:
        rounds(opts)
    assert error.value.where == "data.patches_per_case"
    assert f"patches_per_case={fits}," in error.value.fix
    rounds(replace(opts, data=replace(opts.data, patches_per_case=fits)))


def test_what_was_left_out_at_ingest_counts(tmp_path):
    opts = made(tmp_path)
    assert one_pass_steps(opts, 6) == 9
    with pytest.raises(LifelongCTError, match="3 cases × 6 patches = 18"):
        one_pass_steps(opts, 3)


def classes(tmp_path, requires):
    made = ClassOverlap(
        hospitals=[entry("a", train=[ALL, ("liver",)])],
        classes={"one": ["liver", "spleen"], "two": ["aorta", "pancreas"]},
        **given(),
    )
    return rounds(options(made, tmp_path, requires=requires))


def test_a_round_is_an_experience(tmp_path):
    assert [(row.name, row.hospitals[0].part) for row in classes(tmp_path, Requires())] == [
        ("one", "one"), ("two", "two"),
    ]  # fmt: skip


def test_with_past_data_a_case_of_two_steps_is_there_once_with_both_annotations(tmp_path):
    (joint,) = classes(tmp_path, JOINT)
    assert (joint.name, joint.after, joint.steps) == ("one … two", 2, 4)
    assert [(case.id, set(case.organs)) for case in joint.hospitals[0].train] == [
        ("a-train-0", set(ALL)), ("a-train-1", {"liver"}),
    ]  # fmt: skip
    first, second = classes(tmp_path, Requires(past_data=True))
    assert (first.name, second.hospitals[0].train) == ("one", joint.hospitals[0].train)


def unbounded(tmp_path, requires, count=2):
    opened = stream(*({"name": name} for name in "abc"[:count]), boundaries=False)
    return options(opened, tmp_path, requires=requires, strategy="mine")


def test_who_must_know_boundaries_is_refused_where_nobody_tells_them(tmp_path):
    with pytest.raises(
        Refused, match="strategy=mine must be told where an experience ends, the stream noise"
    ):
        rounds(unbounded(tmp_path, Requires(boundaries=True)))
    with pytest.raises(Refused, match="begins anew with each experience"):
        rounds(unbounded(tmp_path, Requires(reinitialise=True)))
    for requires in (Requires(), JOINT, Requires(past_data=True)):
        assert rounds(unbounded(tmp_path, requires))
    assert rounds(options(stream({"name": "a"}), tmp_path, requires=Requires(boundaries=True)))
