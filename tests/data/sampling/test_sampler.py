"""Which patch comes next: a function of seed, number and content."""

import numpy as np
import pytest
from drawn import Described, drawn, sampler

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.sampling import At, OnePass, WithReplacement


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_every_volume_comes_once_per_epoch(batch_size):
    made = sampler([Described(str(i)) for i in range(7)], batch_size=batch_size)
    indices = [index for index, _ in drawn(made, 21)]
    epochs = [tuple(indices[i : i + 7]) for i in range(0, len(indices), 7)]
    for epoch in epochs:
        assert sorted(epoch)[: len(epoch)] == list(range(7))
    assert len(set(epochs)) > 1


@pytest.mark.parametrize("schedule", [None, WithReplacement(), OnePass(10)])
def test_a_draw_depends_on_seed_and_number_alone(schedule):
    volumes = [Described(str(i), liver=[[50, 50, 50], [20, 20, 20]]) for i in range(4)]
    made = sampler(volumes, batch_size=2, schedule=schedule)
    in_order = [made.draw(step) for step in range(20)]
    assert [made.draw(step) for step in reversed(range(20))] == in_order[::-1]
    assert [sampler(volumes, batch_size=2, schedule=schedule).draw(step) for step in range(20)] == in_order
    assert drawn(sampler(volumes, schedule=schedule), 40) == [pair for pairs in in_order for pair in pairs]
    for keys in ((1, "patches"), (0, "dataset")):
        assert drawn(sampler(volumes, keys=keys, schedule=schedule), 40) != drawn(
            sampler(volumes, schedule=schedule), 40
        )


@pytest.mark.parametrize("schedule", [None, WithReplacement(), OnePass(10)])
def test_a_draw_does_not_depend_on_the_order_of_arrival(schedule):
    volumes = [Described(digest, liver=[[50 + i, 50, 50]]) for i, digest in enumerate("bdac")]
    one = [(volumes[i].digest, start) for i, start in drawn(sampler(volumes, schedule=schedule), 40)]
    for turned in (volumes[::-1], volumes[2:] + volumes[:2]):
        again = drawn(sampler(turned, schedule=schedule), 40)
        assert [(turned[i].digest, start) for i, start in again] == one


def test_a_volume_without_positions_is_drawn_from_anywhere():
    starts = np.array([s for _, s in drawn(sampler([Described(liver=[])], foreground=1.0), 2000)])
    assert starts.min() == 0
    assert starts.max() == 90
    assert len(np.unique(starts[:, 0])) == 91


@pytest.mark.parametrize("centre", [[0, 0, 0], [99, 99, 99], [0, 99, 50], [4, 5, 95]])
def test_a_patch_at_a_border_stays_inside(centre):
    made = sampler([Described(liver=[centre])], foreground=1.0)
    expected = tuple(min(max(c - 5, 0), 90) for c in centre)
    assert {start for _, start in drawn(made, 5)} == {expected}


def test_a_patch_larger_than_a_volume_is_placed_around_its_middle():
    made = sampler([Described(shape=(6, 7, 30), liver=[[1, 6, 29]])], patch=(10, 10, 10), foreground=1.0)
    assert {start for _, start in drawn(made, 5)} == {(-2, -2, 20)}  # 2 | 6 | 2, 2 | 7 | 1


def test_drawing_reads_no_position():
    class Unread(Described):
        def positions(self, group):
            raise AssertionError("the disk was read")

    made = sampler([Unread(liver=[[1, 2, 3]] * 9)], foreground=1.0)
    found = made.centres(0)[0].centre
    assert isinstance(found, At)
    assert found.group == "liver"
    assert 0 <= found.number < 9


@pytest.mark.parametrize("foreground", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_and_1_is_refused(foreground):
    with pytest.raises(LifelongCTError) as error:
        sampler([Described()], foreground=foreground)
    assert error.value.where == "data.foreground"


def test_no_volume_is_refused():
    with pytest.raises(LifelongCTError, match="no volume"):
        sampler([])


# --- one pass -------------------------------------------------------------------------------------------


def test_one_pass_ends_and_a_short_last_step_keeps_the_equal_right():
    made = sampler([Described(str(i)) for i in range(5)], batch_size=2, schedule=OnePass(3))
    assert made.patches == 15
    indices = [index for index, _ in drawn(made, 8)]
    assert len(indices) == 15  # seven steps of two, one of one
    assert [indices[i : i + 3] for i in range(0, 15, 3)] == [[i] * 3 for i in indices[::3]]
    assert sorted(indices[::3]) == list(range(5))
    for step in (8, 1 << 40):
        with pytest.raises(DataError, match="one pass over 5 cases has 15 patches") as error:
            made.draw(step)
        assert error.value.code == "closed"


def test_a_volume_is_finished_after_its_last_patch():
    made = sampler([Described(str(i)) for i in range(4)], batch_size=2, schedule=OnePass(3))
    order = [index for index, _ in drawn(made, 6)][::3]
    finished = [made.finished(0, step) for step in range(7)]
    # patches before a step: 0 2 4 6 8 10 12; three make a volume
    assert [len(each) for each in finished] == [0, 0, 1, 2, 2, 3, 4]
    assert all(each == order[: len(each)] for each in finished)
    assert [index for step in range(6) for index in made.finished(step, step + 1)] == order
    assert sampler([Described()]).finished(0, 100) == []
