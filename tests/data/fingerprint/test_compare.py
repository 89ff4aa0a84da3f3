"""Scores by hand, and the bytes of a fingerprint."""

import numpy as np
import pytest

from lifelong_ct.data.fingerprint import Fingerprint, compare
from lifelong_ct.data.fingerprint.types import PATTERN

EXTENT = np.array([300.0, 300.0, 300.0], np.float32)
MIDDLE = slice(60, 240)
"""mm where every place of every code lies inside."""


def made(count, seed=0, **changes):
    """Key points in the middle of 300 mm with random codes."""
    rng = np.random.default_rng(seed)
    points = (rng.integers(MIDDLE.start // 2, MIDDLE.stop // 2, (count, 3)) * 2).astype(np.float32)
    codes = rng.integers(0, 2**64, count, dtype=np.uint64)
    given = {"extent": EXTENT, "points": points, "bright": rng.random(count) < 0.5, "codes": codes}
    return Fingerprint(**{**given, **changes})


def test_every_bit_that_agrees_counts_one():
    one = made(10)
    match = compare(one, one)
    assert (match.score, match.points, match.shared) == (640, 10, 10)
    assert match.offset == (0, 0, 0)


def test_a_differing_bit_takes_five_and_a_missing_point_five():
    one = made(10)
    codes = one.codes.copy()
    codes[:6] ^= np.uint64(0b101)  # two errors: 62 - 4 * 2
    codes[6:] = ~codes[6:]
    match = compare(one, made(10, codes=codes))
    assert (match.score, match.points, match.shared) == (6 * (64 - 5 * 2) - 4 * 5, 6, 10)


def test_it_is_found_wherever_it_lies():
    one = made(12)
    moved = made(12, points=one.points + np.array([24, -30, 8], np.float32))
    match = compare(moved, one)
    assert match.offset == (24, -30, 8)
    assert match.points == 12


@pytest.mark.parametrize(("count", "found"), [(3, False), (4, True)])
def test_three_points_may_be_chance(count, found):
    one = made(count)
    assert (compare(one, one) is not None) is found


def test_codes_alone_are_nothing_without_their_places_and_bright_is_not_dark():
    one = made(20)
    elsewhere = made(20, seed=5).points
    assert compare(one, made(20, points=elsewhere)) is None
    assert compare(one, made(20, bright=~one.bright)) is None
    assert compare(one, made(0)) is None


def test_least_leaves_out_what_does_not_reach_it():
    one = made(10)
    assert compare(one, one, 640) is not None
    assert compare(one, one, 641) is None


def test_places_outside_of_the_scan_are_not_known():
    one = made(1, points=np.array([[2.0, 150, 150]], np.float32))
    inside = [(PATTERN[:, k, 0] + 2 >= -2).all() for k in range(64)]
    assert 0 < sum(inside) < 64
    assert [bool(int(one.known[0]) >> k & 1) for k in range(64)] == inside


def test_bytes_hold_everything():
    one = made(80)
    data = one.to_bytes()
    assert len(data) == 9 + 12 * 80
    back = Fingerprint.from_bytes(data)
    for key in ("extent", "points", "bright", "codes"):
        np.testing.assert_array_equal(getattr(back, key), getattr(one, key))
    assert len(Fingerprint.from_bytes(made(0).to_bytes())) == 0


def test_bytes_of_another_version_or_length_are_no_fingerprint():
    data = made(3).to_bytes()
    assert Fingerprint.from_bytes(b"\xff" + data[1:]) is None
    assert Fingerprint.from_bytes(data[:-1]) is None
    assert Fingerprint.from_bytes(b"") is None
