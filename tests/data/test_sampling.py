"""Which patch comes next, against counts and binomial bounds."""

from collections import Counter

import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.sampling import PatchSampler


class Fake:
    """A volume with the given positions per organ."""

    def __init__(self, digest="a", shape=(100, 100, 100), **organs):
        self.digest, self.shape, self.organs = digest, shape, tuple(organs)
        self._positions = {name: np.array(rows, np.uint16).reshape(-1, 3) for name, rows in organs.items()}

    def positions(self, organ):
        return self._positions[organ]


def sampler(volumes, patch=(10, 10, 10), batch_size=1, keys=(0, "patches"), foreground=0.67):
    return PatchSampler(volumes, patch, batch_size, keys, foreground)


def drawn(made, steps):
    return [pair for step in range(steps) for pair in made.draw(step)]


def sigmas(count, n, share):
    """Distance of a count from its expectation, in binomial standard deviations."""
    return abs(count - n * share) / np.sqrt(n * share * (1 - share))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_every_volume_comes_once_per_epoch(batch_size):
    made = sampler([Fake(str(i)) for i in range(7)], batch_size=batch_size)
    indices = [index for index, _ in drawn(made, 21)]
    epochs = [tuple(indices[i : i + 7]) for i in range(0, len(indices), 7)]
    for epoch in epochs:
        assert sorted(epoch)[: len(epoch)] == list(range(7))
    assert len(set(epochs)) > 1


def test_orders_of_epochs_are_uniform():
    made = sampler([Fake(str(i)) for i in range(3)])
    indices = [index for index, _ in drawn(made, 3 * 1200)]
    counts = Counter(tuple(indices[i : i + 3]) for i in range(0, len(indices), 3))
    assert len(counts) == 6
    assert all(sigmas(count, 1200, 1 / 6) < 4 for count in counts.values())


def test_a_draw_depends_on_seed_and_number_alone():
    volumes = [Fake(str(i), liver=[[50, 50, 50], [20, 20, 20]]) for i in range(4)]
    made = sampler(volumes, batch_size=2)
    in_order = [made.draw(step) for step in range(20)]
    assert [made.draw(step) for step in reversed(range(20))] == in_order[::-1]
    assert [sampler(volumes, batch_size=2).draw(step) for step in range(20)] == in_order
    assert drawn(sampler(volumes), 40) == [pair for pairs in in_order for pair in pairs]
    assert drawn(sampler(volumes, keys=(1, "patches")), 40) != drawn(sampler(volumes), 40)
    assert drawn(sampler(volumes, keys=(0, "dataset")), 40) != drawn(sampler(volumes), 40)


def test_a_draw_does_not_depend_on_the_order_of_arrival():
    volumes = [Fake(digest, liver=[[50 + i, 50, 50]]) for i, digest in enumerate("bdac")]
    one = [(volumes[i].digest, start) for i, start in drawn(sampler(volumes), 40)]
    turned = volumes[::-1]
    assert [(turned[i].digest, start) for i, start in drawn(sampler(turned), 40)] == one


@pytest.mark.parametrize("foreground", [0.0, 0.33, 0.67, 1.0])
def test_the_share_of_foreground_is_as_stated(foreground):
    made = sampler([Fake(liver=[[50, 40, 30]])], foreground=foreground)
    n = 3000
    centred = sum(start == (45, 35, 25) for _, start in drawn(made, n))
    if foreground in (0.0, 1.0):
        assert abs(centred - foreground * n) <= 1  # a patch anywhere is this one once in 700,000
    else:
        assert sigmas(centred, n, foreground) < 4


def test_organs_have_equal_right_whatever_their_size():
    liver = np.argwhere(np.ones((20, 20, 5))) + 40
    volume = Fake(liver=liver, spleen=[[80, 80, 80]], pancreas=[])
    n = 3000
    starts = [start for _, start in drawn(sampler([volume], foreground=1.0), n)]
    spleen = sum(start == (75, 75, 75) for start in starts)
    assert sigmas(spleen, n, 1 / 2) < 4
    centres = np.array([s for s in starts if s != (75, 75, 75)]) + 5
    assert (centres >= 40).all()
    assert (centres < [60, 60, 45]).all()
    assert sigmas((centres[:, 0] < 50).sum(), len(centres), 1 / 2) < 4


def test_a_volume_without_positions_is_drawn_from_anywhere():
    starts = np.array([s for _, s in drawn(sampler([Fake(liver=[])], foreground=1.0), 2000)])
    assert starts.min() == 0
    assert starts.max() == 90
    assert len(np.unique(starts[:, 0])) == 91
    inner = ((starts[:, 0] > 0) & (starts[:, 0] < 90)).sum()
    assert sigmas(inner, 2000, 0.89) < 4  # centres 6 … 94 of 0 … 99


@pytest.mark.parametrize("centre", [[0, 0, 0], [99, 99, 99], [0, 99, 50], [4, 5, 95]])
def test_a_patch_at_a_border_stays_inside(centre):
    made = sampler([Fake(liver=[centre])], foreground=1.0)
    expected = tuple(min(max(c - 5, 0), 90) for c in centre)
    assert {start for _, start in drawn(made, 5)} == {expected}


def test_a_patch_larger_than_a_volume_is_placed_around_its_middle():
    made = sampler([Fake(shape=(6, 7, 30), liver=[[1, 6, 29]])], patch=(10, 10, 10), foreground=1.0)
    assert {start for _, start in drawn(made, 5)} == {(-2, -2, 20)}  # 2 | 6 | 2, 2 | 7 | 1


@pytest.mark.parametrize("foreground", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_and_1_is_refused(foreground):
    with pytest.raises(LifelongCTError) as error:
        sampler([Fake()], foreground=foreground)
    assert error.value.where == "data.foreground"


def test_no_volume_is_refused():
    with pytest.raises(LifelongCTError, match="no volume"):
        sampler([])
