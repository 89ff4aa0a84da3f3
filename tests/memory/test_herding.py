import itertools

import numpy as np
import pytest
from told import kept, streamed, told

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.herding import Herding, herded


def unit(count: int, seed: int, length: int = 4) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, length)) + 0.5
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def prefixes(rows: np.ndarray, order: tuple[int, ...]) -> list[float]:
    """|μ - mean of the first k| for k = 1 …, iCaRL's criterion."""
    mean = rows.mean(0)
    return [
        round(float(np.linalg.norm(mean - rows[list(order[:k])].mean(0))), 9) for k in range(1, len(rows))
    ]


@pytest.mark.parametrize("seed", range(12))
def test_of_all_orders_it_is_the_one_whose_prefixes_come_nearest_to_the_mean(seed: int) -> None:
    """A greedy order is the least one when the distances of its prefixes are read as a word."""
    rows = unit(6, seed)
    best = min(itertools.permutations(range(6)), key=lambda order: prefixes(rows, order))
    assert herded(rows, rows.mean(0))[:5] == list(best[:5])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("room", [1, 3, 5])
def test_it_keeps_the_first_of_that_order(seed: int, room: int) -> None:
    rows = unit(6, seed)
    best = min(itertools.permutations(range(6)), key=lambda order: prefixes(rows, order))
    patches = [
        told(f"{i}", embedding=3.0 * (i + 1) * row) for i, row in enumerate(rows)
    ]  # lengths do not count
    assert kept(Herding(), patches, 10 * room) == {f"{i}" for i in best[:room]}


def test_hospitals_have_the_same_bytes_whoever_offers_more() -> None:
    many = [told(f"a{i}", hospital="a", embedding=row) for i, row in enumerate(unit(30, 0))]
    few = [told(f"b{i}", hospital="b", embedding=row) for i, row in enumerate(unit(4, 1))]
    stay = kept(Herding(), [*many, *few], 60)
    assert sum(name.startswith("b") for name in stay) == 3
    assert len(stay) == 6
    assert sum(name.startswith("b") for name in kept(Herding(), [*many, *few], 100)) == 4


def test_a_small_patch_does_not_slip_in_behind_a_large_one() -> None:
    rows = unit(6, 3)
    order = herded(rows, rows.mean(0))
    sizes = [10] * 6
    sizes[order[2]], sizes[order[3]] = 30, 1
    patches = [told(f"{i}", size, embedding=row) for i, (size, row) in enumerate(zip(sizes, rows))]
    assert kept(Herding(), patches, 45) == {f"{i}" for i in order[:2]}


def test_large_memories_are_cut_into_pools_that_fill_the_room_alike() -> None:
    patches = [told(f"{i}", embedding=row) for i, row in enumerate(unit(100, 5))]
    stay = kept(Herding(pool=16), patches, 500)
    assert len(stay) == 50
    assert stay == kept(Herding(pool=16), patches[::-1], 500)


@pytest.mark.parametrize("seed", range(5))
def test_a_stream_keeps_its_mean(seed: int) -> None:
    """Sixty patches one by one through a memory of eight, each with the mean of those until then: it ends nearer to the
    mean of all than nine in ten draws of eight do."""
    rows = unit(60, seed)
    means = rows.cumsum(0) / np.arange(1, 61)[:, None]
    stream = [told(f"{i}", embedding=rows[i], mean=means[i], offered=float(i)) for i in range(60)]
    stay = [int(name) for name in streamed(Herding(), stream, 80)]
    rng = np.random.default_rng(0)
    drawn = [np.linalg.norm(rows[rng.choice(60, 8, False)].mean(0) - rows.mean(0)) for _ in range(500)]
    assert np.linalg.norm(rows[stay].mean(0) - rows.mean(0)) < np.quantile(drawn, 0.1)


def test_the_mean_is_that_of_the_latest_patch() -> None:
    """Told means point to 90° early and to 0° at last."""
    said = [(0, 90, 1.0), (90, 90, 2.0), (45, 0, 3.0)]
    patches = [
        told(
            f"{angle}",
            embedding=[np.cos(np.radians(angle)), np.sin(np.radians(angle))],
            mean=[np.cos(np.radians(mean)), np.sin(np.radians(mean))],
            offered=when,
        )
        for angle, mean, when in said
    ]
    assert kept(Herding(), patches, 10) == {"0"}


@pytest.mark.parametrize("wrong", [0, 1, 2.5, "many"])
def test_a_pool_that_compares_nothing_is_refused(wrong: object) -> None:
    with pytest.raises(LifelongCTError, match="pool"):
        Herding(pool=wrong)  # type: ignore[arg-type]
