import numpy as np
import pytest
from told import kept, streamed, told

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.gss import GSS


def patch(name: str, degrees: float, when: float, nbytes: int = 10) -> object:
    """Its gradient points so; its length does not count."""
    radians = np.radians(degrees)
    return told(name, nbytes, gradient=[7 * np.cos(radians), 7 * np.sin(radians)], offered=when)


def cosine(a: float, b: float) -> float:
    return float(np.cos(np.radians(a - b)))


MEMORY = (0.0, 50.0, 110.0)
NEWCOMER = 220.0
"""Its cosines with the memory are -0.766, -0.985 and -0.342: it may enter."""


def outcomes(policy: GSS, newcomer: float, runs: int) -> np.ndarray:
    """How often who is missing at the end: 0, 1, 2 of the memory, 3 the newcomer."""
    full = [patch(f"{i}", angle, float(i)) for i, angle in enumerate(MEMORY)]
    found = np.zeros(4)
    for seed in range(runs):
        stay = kept(policy, [patch("3", newcomer, 3.0), *full], 30, seed)
        (missing,) = {"0", "1", "2", "3"} - stay
        found[int(missing)] += 1
    return found


def algorithm_2() -> np.ndarray:
    """P(who is missing), computed from lines 7 to 13 of the paper's algorithm."""
    score = [1.0]  # nobody was there before the first
    for n in range(1, 3):
        score.append(1 + max(cosine(MEMORY[n], before) for before in MEMORY[:n]))
    c = 1 + max(cosine(NEWCOMER, angle) for angle in MEMORY)
    assert c < 1
    drawn = np.array(score) / sum(score)
    replaced = drawn * np.array([each / (each + c) for each in score])
    return np.append(replaced, 1 - replaced.sum())


def test_who_is_replaced_is_drawn_as_in_algorithm_2() -> None:
    runs = 3000
    found, wanted = outcomes(GSS(), NEWCOMER, runs), runs * algorithm_2()
    assert ((found - wanted) ** 2 / wanted).sum() < 16.27  # chi-square, 3 degrees of freedom, p = 0.001


def test_one_that_resembles_the_memory_does_not_enter() -> None:
    """At 100° its cosine with 110° is 0.98."""
    assert outcomes(GSS(), 100.0, 50).tolist() == [0, 0, 0, 50]


def test_the_threshold_lets_more_compete() -> None:
    assert outcomes(GSS(threshold=2.0), 100.0, 200)[3] < 200
    assert outcomes(GSS(threshold=-0.5), NEWCOMER, 50)[3] == 50


def test_a_newcomer_is_compared_with_a_random_subset() -> None:
    """Cosines of 20° with the memory: 0.94, 0.87, 0.0. Compared with one of them at random, it may enter where that is
    the last, whose cosine lies below 0.01: in a third of all cases at most."""
    shut = outcomes(GSS(subset=3, threshold=0.01), 20.0, 100)
    ajar = outcomes(GSS(subset=1, threshold=0.01), 20.0, 3000)
    assert shut[3] == 100
    assert 0 < 3000 - ajar[3] < 1000 * 1.1


def test_they_fill_the_memory_whatever_they_resemble() -> None:
    same = [patch(f"{i}", 30.0, float(i)) for i in range(5)]
    assert len(kept(GSS(), same, 50)) == 5
    assert kept(GSS(), same, 30) == {"0", "1", "2"}, "the first to come stay"


def test_a_newcomer_must_win_the_room_of_each_that_it_displaces() -> None:
    """One of twice the size displaces two, and enters more rarely than one of their size."""
    full = [patch(f"{i}", angle, float(i)) for i, angle in enumerate(MEMORY)]

    def enters(nbytes: int) -> tuple[float, set[int]]:
        stays = [kept(GSS(), [*full, patch("3", NEWCOMER, 3.0, nbytes)], 30, seed) for seed in range(800)]
        entered = [stay for stay in stays if "3" in stay]
        return len(entered) / len(stays), {len(stay) for stay in entered}

    single, double = enters(10), enters(20)
    assert (single[1], double[1]) == ({3}, {2})
    assert double[0] < single[0]
    assert enters(31)[0] == 0


def test_a_stream_of_two_opposite_heaps_keeps_both() -> None:
    rng = np.random.default_rng(0)
    heaps = [(0.0, 60), (180.0, 8)]
    stream = [
        patch(f"{angle:g} {i}", angle + rng.uniform(-5, 5), 100 * angle + i)
        for angle, n in heaps
        for i in range(n)
    ]
    both = [{name.split()[0] for name in streamed(GSS(), stream, 60, seed)} for seed in range(10)]
    assert sum(each == {"0", "180"} for each in both) >= 9


@pytest.mark.parametrize("wrong", [{"subset": 0}, {"threshold": -2}, {"threshold": float("nan")}])
def test_wrong_arguments(wrong: dict) -> None:
    with pytest.raises(LifelongCTError, match=next(iter(wrong))):
        GSS(**wrong)
