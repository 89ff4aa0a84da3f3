import pytest

from lifelong_ct.memory.selection import Description, Descriptor
from lifelong_ct.memory.selection.recent import Recent


def arrived(turn: float, nbytes: int = 1, gone: bool = False) -> Descriptor:
    said = Description(scores={"offered": turn})
    return Descriptor(f"{turn}", nbytes, "h", gone, description=said)


@pytest.mark.parametrize("budget", [1, 3, 10])
def test_it_is_a_queue(budget: int) -> None:
    held: list[Descriptor] = []
    for turn in range(20):
        candidates = [*held, arrived(turn / 4)]
        keep = Recent().decide(candidates, seed=0, budget=budget)
        held = [d for d, stays in zip(candidates, keep, strict=True) if stays]
        first = max(0, turn + 1 - budget)
        assert [d.id for d in held] == [f"{t / 4}" for t in range(first, turn + 1)]


def test_the_oldest_leave_until_the_rest_fits_though_one_of_them_would() -> None:
    """Of 2 + 6 + 3 + 1 bytes the last two fit into 8; the first would fit beside them, but it is older than what left."""
    sizes = [2, 6, 3, 1]
    keep = Recent().decide([arrived(turn, size) for turn, size in enumerate(sizes)], seed=0, budget=8)
    assert keep == [False, False, True, True]


def test_what_is_gone_is_forgotten() -> None:
    assert Recent().decide([arrived(1), arrived(2, gone=True)], seed=0, budget=5) == [True, False]
