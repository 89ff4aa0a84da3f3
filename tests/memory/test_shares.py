import numpy as np
import pytest
from told import told

from lifelong_ct.memory.selection.shares import fitting, pools, present, share_out
from lifelong_ct.memory.selection.vectors import GRID, directions, stacked


def first_that_fit(crowd: list) -> object:
    return lambda members, room: fitting(crowd, members, room)


@pytest.mark.parametrize(
    ("sizes", "room", "wanted"),
    [
        ((5, 5, 5), 90, (3, 3, 3)),
        (
            (9, 2, 5),
            90,
            (4, 2, 3),
        ),  # 2 leaves 70 for two: 35 each, and what 3 patches leave of that goes to the last
        ((1, 1, 1), 90, (1, 1, 1)),
        ((7, 0, 7), 50, (3, 0, 2)),
    ],
)
def test_shares_by_hand(sizes: tuple[int, ...], room: int, wanted: tuple[int, ...]) -> None:
    crowd = [told(f"{group}{i}", 10, group) for group, n in zip("abc", sizes) for i in range(n)]
    groups = [[i for i, d in enumerate(crowd) if d.hospital == group] for group in "abc"]
    kept = share_out(crowd, [g for g in groups if g], room, first_that_fit(crowd))  # type: ignore[arg-type]
    found = tuple(sum(crowd[i].hospital == group for i in kept) for group in "abc")
    assert sorted(found) == sorted(wanted)
    assert 10 * sum(found) <= room


def test_the_first_that_does_not_fit_ends_an_order() -> None:
    crowd = [told("a", 10), told("b", 50), told("c", 1)]
    assert fitting(crowd, [0, 1, 2], 30) == [0]
    assert fitting(crowd, [2, 0, 1], 61) == [2, 0, 1]


def test_pools_are_a_partition_of_about_the_size_asked_for() -> None:
    crowd = [told(f"{i}") for i in range(1000)]
    cut = pools(crowd, present(crowd), seed=0, most=64)
    assert sorted(i for pool in cut for i in pool) == list(range(1000))
    assert len(cut) == 16
    assert max(map(len, cut)) < 62.5 + 5 * np.sqrt(62.5)
    assert pools(crowd, [], 0, 64) == []


def test_vectors_lie_on_a_grid_and_what_is_missing_is_zero() -> None:
    crowd = [
        told("a", v=[3.0, 4.0]),
        told("b"),
        told("c", v=[1.0]),
        told("d", v=[-0.003, 0.0]),
        told("e", v=[0.0, 0.0]),
    ]
    rows = directions(crowd, range(5), "v")
    assert rows.tolist() == [[round(0.6 * GRID), round(0.8 * GRID)], [0, 0], [0, 0], [-GRID, 0], [0, 0]]
    flat = stacked(crowd, range(5), "v")
    assert flat[0].tolist() == [round(0.75 * GRID), GRID]
    assert flat[3].tolist() == [round(-0.00075 * GRID), 0]
    assert stacked(crowd, [1], "w").tolist() == [[0.0]]


def test_what_is_no_number_counts_as_zero() -> None:
    crowd = [told("a", v=[np.nan, np.inf, 1.0])]
    assert directions(crowd, [0], "v").tolist() == [[0.0, 0.0, GRID]]
