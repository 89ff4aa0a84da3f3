import itertools

import numpy as np
import pytest
from scipy.stats import chisquare

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.reservoir import Reservoir


def items(sizes: list[int]) -> list[Descriptor]:
    return [Descriptor(f"item {i}", size, "a") for i, size in enumerate(sizes)]


def one_by_one(stream: list[Descriptor], seed: int, budget: int) -> set[str]:
    """What a memory does: offers come singly, what is dropped comes back once as gone."""
    held: list[Descriptor] = []
    for item in stream:
        held.append(item)
        keep = Reservoir().decide(held, seed, budget)
        assert sum(d.nbytes for d, stays in zip(held, keep) if stays and not d.gone) <= budget
        gone = [Descriptor(d.id, d.nbytes, d.hospital, True) for d, s in zip(held, keep) if s == d.gone]
        held = [d for d, stays in zip(held, keep) if stays and not d.gone] + gone
        assert len(gone) <= len(stream)
    return {d.id for d in held if not d.gone}


def test_every_item_stays_equally_often() -> None:
    n, k, runs = 20, 5, 2000
    stream = items([10] * n)
    counts = np.zeros(n)
    for seed in range(runs):
        keep = Reservoir().decide(stream, seed, 10 * k)
        assert sum(keep) == k
        counts += keep
    # k of n without replacement: the counts vary less than multinomial ones, by (n - k) / (n - 1)
    statistic = chisquare(counts).statistic / ((n - k) / (n - 1)) * (n - 1) / n
    assert statistic < 43.8  # chi-square with 19 degrees of freedom, p = 0.001


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_arrival_does_not_matter_whatever_the_sizes(seed: int) -> None:
    stream = items([60, 50, 30, 20, 45])
    outcomes = {frozenset(one_by_one(list(p), seed, 100)) for p in itertools.permutations(stream)}
    assert len(outcomes) == 1
    at_once = Reservoir().decide(stream, seed, 100)
    assert outcomes.pop() == {d.id for d, stays in zip(stream, at_once) if stays}


def test_small_items_are_not_preferred() -> None:
    sizes, runs = [10, 30] * 10, 1500
    kept = np.zeros(20)
    for seed in range(runs):
        kept += Reservoir().decide(items(sizes), seed, 100)
    small, large = kept[::2].mean() / runs, kept[1::2].mean() / runs
    # a search that skipped what does not fit would keep nearly every small item and hardly a large one
    assert 0.2 < large < small < 0.3


def test_a_refused_item_is_remembered_only_as_long_as_it_decides() -> None:
    stream = items([10] * 50)
    held: list[Descriptor] = []
    for item in stream:
        held.append(item)
        keep = Reservoir().decide(held, 0, 100)
        held = [
            Descriptor(d.id, d.nbytes, d.hospital, gone=d.gone or not stays)
            for d, stays in zip(held, keep)
            if stays or not d.gone
        ]
        assert sum(d.gone for d in held) <= 2


def test_nothing_offered_nothing_kept() -> None:
    assert Reservoir().decide([], 0, 100) == []
