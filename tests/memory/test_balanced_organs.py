from collections import Counter

import pytest
from told import kept, streamed, told

from lifelong_ct.memory.selection.organ_balanced import OrganBalanced
from lifelong_ct.memory.selection.shares import lot


def of(name: str, count: int, *organs: str, nbytes: int = 10) -> list:
    return [told(f"{name}{i}", nbytes, organs=organs) for i in range(count)]


def counts(stay: set[str]) -> dict[str, int]:
    return dict(Counter(name[0] for name in stay))


def test_one_organ_per_patch_gives_equal_numbers() -> None:
    crowd = [*of("l", 40, "liver"), *of("s", 12, "spleen"), *of("p", 3, "pancreas")]
    assert sorted(counts(kept(OrganBalanced(), crowd, 180)).items())[1] == ("p", 3)
    assert sorted(counts(kept(OrganBalanced(), crowd, 180)).values()) == [3, 7, 8]
    assert counts(kept(OrganBalanced(), crowd, 90)) == {"l": 3, "s": 3, "p": 3}


def test_a_patch_with_a_rare_organ_stays_however_common_its_others_are() -> None:
    crowd = [*of("l", 10, "liver"), *of("b", 2, "liver", "pancreas")]
    assert counts(kept(OrganBalanced(), crowd, 40)) == {"l": 2, "b": 2}


def test_background_alone_is_a_class_of_its_own() -> None:
    crowd = [*of("n", 30), *of("l", 30, "liver")]
    assert counts(kept(OrganBalanced(), crowd, 100)) == {"n": 5, "l": 5}


def test_an_organ_without_a_voxel_is_not_shown() -> None:
    bare = [told(f"n{i}") for i in range(9)]
    for patch in bare:
        patch.description.organs["liver"] = 0  # type: ignore[index]
    assert counts(kept(OrganBalanced(), [*bare, *of("l", 9, "liver")], 80)) == {"n": 4, "l": 4}


def gdumb(stream: list, room: int, seed: int) -> set[str]:
    """Algorithm 1 of the paper on one class per patch; its random patch of the largest class is the one with the
    highest lot, and between classes of one size the lot decides too."""
    held: list = []
    for newcomer in stream:
        held.append(newcomer)
        if len(held) > room:
            sizes = Counter(next(iter(d.description.organs)) for d in held)
            largest = max(sizes.values())
            drawn = [d for d in held if sizes[next(iter(d.description.organs))] == largest]
            held.remove(max(drawn, key=lambda d: lot(seed, "organ_balanced", d)))
    return {d.id for d in held}


@pytest.mark.parametrize("seed", range(10))
def test_a_stream_of_single_organs_goes_as_in_gdumb(seed: int) -> None:
    stream = [*of("l", 15, "liver"), *of("s", 6, "spleen"), *of("p", 2, "pancreas"), *of("k", 9, "kidney")]
    assert streamed(OrganBalanced(), stream, 100, seed) == gdumb(stream, 10, seed)


def test_sizes_do_not_decide_who_leaves() -> None:
    """Small and large livers leave alike: among ten of each, five or so of each stay."""
    crowd = [*of("a", 10, "liver", nbytes=10), *of("b", 10, "liver", nbytes=30)]
    small = [counts(kept(OrganBalanced(), crowd, 200, seed)).get("a", 0) for seed in range(200)]
    assert 4.5 < sum(small) / 200 < 5.7
