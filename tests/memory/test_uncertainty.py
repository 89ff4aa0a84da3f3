import numpy as np
from told import kept, streamed, told

from lifelong_ct.memory.selection.uncertainty import Uncertainty


def patches(*values: float, hospital: str = "a") -> list:
    return [told(f"{value:g}", hospital=hospital, uncertainty=value) for value in values]


def test_who_leaves_by_hand() -> None:
    """Gaps between neighbours: 0.1 has 0 and 0.15 (0.15 apart); 0.15 has 0.1 and 0.5; 0.5 has 0.15 and 1."""
    crowd = patches(0.0, 0.1, 0.15, 0.5, 1.0)
    assert kept(Uncertainty(), crowd, 40) == {"0", "0.15", "0.5", "1"}
    assert kept(Uncertainty(), crowd, 30) == {"0", "0.5", "1"}
    assert kept(Uncertainty(), crowd, 20) == {"0", "1"}
    assert len(kept(Uncertainty(), crowd, 10)) == 1


def test_evenly_spaced_values_come_out_of_a_crowded_end() -> None:
    crowd = patches(*(i / 100 for i in range(21)), *(i / 10 for i in range(3, 11)))
    values = sorted(float(name) for name in kept(Uncertainty(), crowd, 110))
    assert np.diff(values).max() < 0.12
    assert (values[0], values[-1]) == (0.0, 1.0)


def test_a_stream_covers_the_range_whatever_comes_when() -> None:
    """Sure patches late, unsure ones early, as a model learns: a memory of six still spans both."""
    rng = np.random.default_rng(0)
    stream = patches(*(1 - rng.random(80) * 0.2), *(rng.random(200) * 0.2))
    values = sorted(float(name) for name in streamed(Uncertainty(), stream, 60))
    assert values[0] < 0.01
    assert values[-1] > 0.99
    assert sum(value < 0.5 for value in values) >= 2


def test_hospitals_have_the_same_bytes() -> None:
    crowd = [*patches(*(i / 40 for i in range(40))), *patches(0.111, 0.222, 0.333, 0.444, hospital="b")]
    stay = kept(Uncertainty(), crowd, 60)
    assert len(stay & {"0.111", "0.222", "0.333", "0.444"}) == 3


def test_equal_values_leave_by_lot() -> None:
    crowd = [told(f"{i}", uncertainty=0.5) for i in range(9)]
    assert len({frozenset(kept(Uncertainty(), crowd, 30, seed)) for seed in range(20)}) > 10
