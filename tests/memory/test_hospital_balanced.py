import itertools

import numpy as np
from scipy.stats import chisquare
from told import kept, streamed, told

from lifelong_ct.memory.selection.hospital_balanced import HospitalBalanced


def of(hospital: str, count: int, nbytes: int = 10) -> list:
    return [told(f"{hospital}{i}", nbytes, hospital) for i in range(count)]


def counts(stay: set[str]) -> dict[str, int]:
    return {h: sum(name[0] == h for name in stay) for h in sorted({name[0] for name in stay})}


def test_equal_shares_by_hand() -> None:
    crowd = [*of("a", 50), *of("b", 20), *of("c", 10)]
    assert counts(kept(HospitalBalanced(), crowd, 300)) == {"a": 10, "b": 10, "c": 10}


def test_what_one_does_not_fill_the_others_share() -> None:
    crowd = [*of("a", 50), *of("b", 20), *of("c", 2)]
    assert counts(kept(HospitalBalanced(), crowd, 300)) == {"a": 14, "b": 14, "c": 2}
    assert counts(kept(HospitalBalanced(), [*of("a", 50), *of("b", 3), *of("c", 2)], 300)) == {
        "a": 25,
        "b": 3,
        "c": 2,
    }


def test_shares_are_of_bytes() -> None:
    crowd = [*of("a", 50, 10), *of("b", 20, 30)]
    assert counts(kept(HospitalBalanced(), crowd, 300)) == {"a": 15, "b": 5}


def test_one_after_the_other_the_first_make_room() -> None:
    stream = [*of("a", 40), *of("b", 40), *of("c", 40), *of("d", 4)]
    assert counts(streamed(HospitalBalanced(), stream[:80], 240)) == {"a": 12, "b": 12}
    assert counts(streamed(HospitalBalanced(), stream[:120], 240)) == {"a": 8, "b": 8, "c": 8}
    now = counts(streamed(HospitalBalanced(), stream, 240))
    assert now["d"] == 4
    assert sorted(now.values()) == [4, 6, 7, 7]


def test_within_a_hospital_every_patch_stays_equally_often() -> None:
    """Ten of sixteen of the second hospital stay, in a stream whose first one had all the room."""
    stream, runs = [*of("a", 16), *of("b", 8)], 400
    seen = {"a": np.zeros(16), "b": np.zeros(8)}
    for seed in range(runs):
        for name in streamed(HospitalBalanced(), stream, 80, seed):
            seen[name[0]][int(name[1:])] += 1
    for counts_, stay in ((seen["a"], 4), (seen["b"], 4)):
        n = len(counts_)
        assert counts_.sum() == stay * runs
        statistic = chisquare(counts_).statistic * (n - 1) / (n - stay)  # drawn without replacement
        assert statistic < {16: 37.7, 8: 24.3}[n]  # chi-square, n - 1 degrees of freedom, p = 0.001


def test_the_order_of_arrival_within_a_hospital_does_not_matter() -> None:
    stream = [told(f"a{i}", size, "a") for i, size in enumerate((60, 50, 30, 20))]
    for seed in range(10):
        outcomes = {
            frozenset(streamed(HospitalBalanced(), p, 100, seed)) for p in itertools.permutations(stream)
        }
        assert len(outcomes) == 1


def test_what_is_gone_is_remembered_once_per_hospital() -> None:
    gone = [told(f"{h}{i}", hospital=h, gone=True) for h in "abc" for i in range(5)]
    keep = HospitalBalanced().decide(gone, 0, 100)
    assert sum(keep) == 3
