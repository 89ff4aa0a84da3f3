from collections import Counter

import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection import Description, Descriptor
from lifelong_ct.memory.selection.greedy_balanced import GreedyBalanced


def arrived(name: str, turn: int, nbytes: int = 1) -> Descriptor:
    """A patch of the hospital that its name begins with."""
    return Descriptor(name, nbytes, name[0], description=Description(scores={"offered": float(turn)}))


def stepped(sampler: GreedyBalanced, held: list[Descriptor], new: Descriptor, budget: int, seed: int = 0):
    candidates = [*held, new]
    return [d for d, stays in zip(candidates, sampler.decide(candidates, seed, budget)) if stays]


def counts(held: list[Descriptor]) -> dict[str, int]:
    return dict(sorted(Counter(d.hospital for d in held).items()))


@pytest.mark.parametrize("seed", range(5))
def test_a_sequence_by_hand(seed: int) -> None:
    """Algorithm 1 with k = 4 and samples of one size: what comes, whether it is kept, and what is held then.

    A newcomer is kept if its class is new or holds less than 4 / classes; the largest class makes room, the first of
    two.
    """
    sampler, held = GreedyBalanced(), []
    sequence = [
        ("a1", True, {"a": 1}),
        ("a2", True, {"a": 2}),
        ("a3", True, {"a": 3}),
        ("a4", True, {"a": 4}),
        ("a5", False, {"a": 4}),  # 4 is not less than 4 / 1
        ("b1", True, {"a": 3, "b": 1}),  # new
        ("b2", True, {"a": 2, "b": 2}),  # 1 < 4 / 2
        ("b3", False, {"a": 2, "b": 2}),
        ("a6", False, {"a": 2, "b": 2}),
        ("c1", True, {"a": 1, "b": 2, "c": 1}),  # of a and b, both with 2, the first
        ("c2", True, {"a": 1, "b": 1, "c": 2}),  # 1 < 4 / 3
        ("a7", True, {"a": 2, "b": 1, "c": 1}),  # 1 < 4 / 3, and c has most
        ("a8", False, {"a": 2, "b": 1, "c": 1}),
        ("d1", True, {"a": 1, "b": 1, "c": 1, "d": 1}),
        ("d2", False, {"a": 1, "b": 1, "c": 1, "d": 1}),  # 1 is not less than 4 / 4
    ]
    for turn, (name, kept, then) in enumerate(sequence):
        held = stepped(sampler, held, arrived(name, turn), budget=4, seed=seed)
        assert counts(held) == then, name
        assert (name in {d.id for d in held}) == kept, name


def test_who_leaves_is_drawn_from_the_largest_group() -> None:
    """Each of 4 leaves in 1000 of 4000 draws, with a standard deviation of 27."""
    four = [arrived(f"a{i}", i) for i in range(4)]
    gone: Counter[str] = Counter()
    for seed in range(4000):
        (left,) = {d.id for d in four} - {
            d.id for d in stepped(GreedyBalanced(), four, arrived("b", 4), 4, seed)
        }
        gone[left] += 1
    assert all(abs(count - 1000) < 5 * 27 for count in gone.values())


def test_bytes_take_the_place_of_the_number_of_samples() -> None:
    """10 bytes, of which a holds 9: b's 6 bytes make a lose members until they fit; then b holds more than half."""
    held = [arrived("a1", 0, 3), arrived("a2", 1, 3), arrived("a3", 2, 3)]
    held = stepped(GreedyBalanced(), held, arrived("b1", 3, 6), 10)
    assert counts(held) == {"a": 1, "b": 1}
    assert counts(stepped(GreedyBalanced(), held, arrived("b2", 4, 1), 10)) == {"a": 1, "b": 1}, "6 ≥ 10 / 2"
    assert counts(stepped(GreedyBalanced(), held, arrived("a4", 4, 1), 10)) == {"a": 2, "b": 1}, "3 < 10 / 2"


def test_a_group_may_be_the_organ_with_the_most_voxels() -> None:
    def showing(name: str, turn: int, **organs: int) -> Descriptor:
        return Descriptor(name, 1, "one", description=Description(organs, {"offered": float(turn)}))

    held: list[Descriptor] = []
    come = [
        showing("1", 0, liver=9, spleen=2),
        showing("2", 1, liver=5),
        showing("3", 2, liver=5),
        showing(
            "4", 3, liver=2, spleen=3
        ),  # the liver has 2, less than it: a new group, the liver makes room
        showing("5", 4, spleen=3),  # 1 < 2 / 2 does not hold
        showing("6", 5),  # shows nothing: a group of its own
    ]
    for descriptor in come:
        held = stepped(GreedyBalanced(by="organ"), held, descriptor, budget=2)
    assert len(held) == 2
    assert held[-1].id == "6"
    assert held[0].id in {"1", "2", "4"}
    assert GreedyBalanced(by="organ").needs == {"offered", "organs"}


def test_another_group_is_refused() -> None:
    with pytest.raises(LifelongCTError, match="patient"):
        GreedyBalanced(by="patient")
