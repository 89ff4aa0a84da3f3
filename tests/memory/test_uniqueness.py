import numpy as np
import pytest
from told import kept, streamed, told

from lifelong_ct.memory.selection.uniqueness import Uniqueness


def at(*degrees: float) -> list:
    """Patches whose features point so; their lengths differ and do not count."""
    radians = np.radians(degrees)
    return [
        told(f"{d:g}", embedding=[(i + 1) * np.cos(a), (i + 1) * np.sin(a)])
        for i, (d, a) in enumerate(zip(degrees, radians))
    ]


def most_similar_leave(rows: np.ndarray, room: int) -> set[int]:
    """The authors' loop, in plain words: look for the nearest pair, drop one of it, again."""
    held = list(range(len(rows)))
    dropped_pairs = []
    while len(held) > room:
        pairs = [(i, j) for i in held for j in held if i < j]
        nearest = max(pairs, key=lambda p: rows[p[0]] @ rows[p[1]])
        dropped_pairs.append(nearest)
        held.remove(nearest[0])
    return {i for pair in dropped_pairs for i in pair}


@pytest.mark.parametrize("seed", range(10))
def test_one_of_the_nearest_pair_leaves(seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((7, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    stay = kept(Uniqueness(), [told(f"{i}", embedding=row) for i, row in enumerate(rows)], 60, seed)
    gone = set(map(str, range(7))) - stay
    assert len(gone) == 1
    assert gone <= {f"{i}" for i in most_similar_leave(rows, 6)}


def test_pairs_by_hand() -> None:
    """Pairs 1° and 3° apart among lone ones: of each one leaves, the nearer pair first."""
    patches = at(0, 1, 40, 43, 90, 150, 220)
    assert len(kept(Uniqueness(), patches, 60) & {"0", "1"}) == 1
    stay = kept(Uniqueness(), patches, 50)
    assert {"90", "150", "220"} < stay
    assert len(stay & {"0", "1"}) == len(stay & {"40", "43"}) == 1


def test_which_of_the_pair_leaves_is_drawn() -> None:
    patches = at(0, 1, 90, 180)
    stays = [kept(Uniqueness(), patches, 30, seed) & {"0", "1"} for seed in range(60)]
    assert 15 < sum(stay == {"0"} for stay in stays) < 45  # binomial ½ of 60: 30 ± 4 standard deviations


def test_a_stream_of_copies_leaves_one_of_each() -> None:
    stream = at(*[d + 0.1 * k for k in range(5) for d in (0, 60, 120, 180, 240)])
    stay = streamed(Uniqueness(), stream, 50)
    assert sorted(round(float(name)) for name in stay) == [0, 60, 120, 180, 240]


def test_room_for_none() -> None:
    assert kept(Uniqueness(), at(0, 90), 5) == set()
