import itertools

import numpy as np
import pytest
from told import kept, streamed, told

from lifelong_ct.memory.selection.k_centre import KCentre, farthest_first
from lifelong_ct.memory.selection.shares import lot


def points(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3))


def radius(rows: np.ndarray, centres: tuple[int, ...]) -> float:
    """The largest distance of a point to its nearest centre."""
    apart = np.linalg.norm(rows[:, None] - rows[None, list(centres)], axis=2)
    return float(apart.min(1).max())


def steps(rows: np.ndarray, order: tuple[int, ...]) -> list[float]:
    """Distance of each point of an order to the nearest before it."""
    return [
        min(round(float(np.linalg.norm(rows[order[k]] - rows[i])), 9) for i in order[:k])
        for k in range(1, len(order))
    ]


@pytest.mark.parametrize("seed", range(8))
def test_of_all_orders_it_is_the_one_that_goes_farthest_each_time(seed: int) -> None:
    rows = points(6, seed)
    orders = [(0, *rest) for rest in itertools.permutations(range(1, 6))]
    best = max(orders, key=lambda order: steps(rows, order))
    assert steps(rows, tuple(farthest_first(rows, 0))) == steps(rows, best)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("room", [2, 3, 4])
def test_its_radius_is_at_most_twice_that_of_the_best_subset(seed: int, room: int) -> None:
    """Gonzalez' bound, against every subset."""
    rows = points(8, seed)
    stay = kept(KCentre(), [told(f"{i}", embedding=row) for i, row in enumerate(rows)], 10 * room, seed)
    best = min(radius(rows, subset) for subset in itertools.combinations(range(8), room))
    assert len(stay) == room
    assert best <= radius(rows, tuple(int(i) for i in stay)) <= 2 * best


def test_of_every_heap_one_patch_stays() -> None:
    """Three heaps far apart, five patches each: the best three centres are one of each."""
    heaps = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    rng = np.random.default_rng(0)
    patches = [
        told(f"{heap} {i}", embedding=heaps[heap] + rng.uniform(-1, 1, 2))
        for heap in range(3)
        for i in range(5)
    ]
    for seed in range(5):
        assert {name[0] for name in kept(KCentre(), patches, 30, seed)} == {"0", "1", "2"}
        assert {name[0] for name in streamed(KCentre(), patches, 30, seed)} == {"0", "1", "2"}


def test_the_first_centre_is_drawn_by_content() -> None:
    patches = [told(f"{i}", embedding=row) for i, row in enumerate(points(20, 0))]
    firsts = {kept(KCentre(), patches, 10, seed).pop() for seed in range(40)}
    assert len(firsts) > 8
    assert kept(KCentre(), patches, 10, 3) == {min(patches, key=lambda d: lot(3, "k_centre", d)).id}


def test_copies_leave_first() -> None:
    patches = [told(f"{i}", embedding=row) for i, row in enumerate(points(5, 1))]
    copies = [told(f"copy {d.id}", embedding=d.description.vectors["embedding"]) for d in patches]
    stay = kept(KCentre(), [*patches, *copies], 50)
    assert {name.split()[-1] for name in stay} == {d.id for d in patches}
