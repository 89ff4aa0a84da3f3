import itertools

import numpy as np
import pytest
from told import kept, streamed, told

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.loss_aware import LossAware


def patches(*losses: float, nbytes: int = 10) -> list:
    return [told(f"{i}", nbytes, loss=loss) for i, loss in enumerate(losses)]


def test_who_stays_alone_is_in_proportion_to_the_loss() -> None:
    """Of four patches one stays with the probability loss / Σ loss."""
    runs, losses = 4000, np.array([1.0, 2.0, 3.0, 4.0])
    stays = np.zeros(4)
    for seed in range(runs):
        stays[int(kept(LossAware(), patches(*losses), 10, seed).pop())] += 1
    wanted = runs * losses / losses.sum()
    assert ((stays - wanted) ** 2 / wanted).sum() < 16.27  # chi-square, 3 degrees of freedom, p = 0.001


def test_of_two_the_second_is_drawn_from_the_rest_in_proportion() -> None:
    """Sampling without replacement: P({0, 1}) = p0 p1/(1-p0) + p1 p0/(1-p1)."""
    runs, losses = 4000, np.array([1.0, 3.0, 6.0])
    p = losses / losses.sum()
    found = sum(kept(LossAware(), patches(*losses), 20, seed) == {"0", "1"} for seed in range(runs))
    wanted = p[0] * p[1] / (1 - p[0]) + p[1] * p[0] / (1 - p[1])
    assert abs(found / runs - wanted) < 3.3 * np.sqrt(wanted * (1 - wanted) / runs)


def test_the_power_makes_it_even_or_greedy() -> None:
    losses = [0.1] * 10 + [1.0] * 10
    hard = {f"{i}" for i in range(10, 20)}

    def share(power: float) -> float:
        policy = LossAware(power)
        return float(np.mean([len(kept(policy, patches(*losses), 100, seed) & hard) for seed in range(100)]))

    assert 4.3 < share(0) < 5.7
    assert 7 < share(1) < 9.5
    assert share(6) == 10


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_in_any_order_gives_one_answer(seed: int) -> None:
    stream = [told(f"{i}", size, loss=1.0 + i) for i, size in enumerate((60, 50, 30, 20, 45))]
    outcomes = {
        frozenset(streamed(LossAware(), order, 100, seed)) for order in itertools.permutations(stream)
    }
    assert outcomes == {frozenset(kept(LossAware(), stream, 100, seed))}


def test_without_a_loss_all_are_alike() -> None:
    bare = [told(f"{i}") for i in range(10)]
    assert len(kept(LossAware(), [*bare, told("gone", gone=True)], 50)) == 5


@pytest.mark.parametrize("wrong", [-1, float("inf"), float("nan"), "high", True])
def test_a_power_that_means_nothing_is_refused(wrong: object) -> None:
    with pytest.raises(LifelongCTError, match="power"):
        LossAware(wrong)  # type: ignore[arg-type]
