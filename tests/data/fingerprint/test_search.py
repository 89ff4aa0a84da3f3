"""Among many: copies are found, strangers are not, and what is compared in full stays few."""

import math

import numpy as np
import pytest

from lifelong_ct.data.fingerprint import Fingerprint, edges, near_duplicates, search
from lifelong_ct.data.fingerprint.edges import Edges
from lifelong_ct.data.fingerprint.search import threshold
from lifelong_ct.data.fingerprint.types import blank


def stranger(rng):
    points = (rng.integers(20, 130, (40, 3)) * 2).astype(np.float32)
    codes = rng.integers(0, 2**64, 40, dtype=np.uint64)
    return Fingerprint(np.full(3, 300, np.float32), points, rng.random(40) < 0.5, codes)


def copy(one, rng, keep=25):
    """Some of its key points, moved together and a little each, with an error or two in most codes."""
    kept = np.sort(rng.permutation(len(one))[:keep])
    points = one.points[kept] + 2 * rng.integers(-10, 10, 3) + 2 * rng.integers(-1, 2, (keep, 3))
    codes = one.codes[kept] ^ (np.uint64(1) << rng.integers(0, 64, keep, dtype=np.uint64))
    return Fingerprint(one.extent, points.astype(np.float32), one.bright[kept], codes)


def planted(count, copies, seed=0):
    rng = np.random.default_rng(seed)
    prints = [stranger(rng) for _ in range(count)]
    pairs = []
    for i in range(copies):
        pairs.append((i, len(prints)))
        prints.append(copy(prints[i], rng))
    return prints, pairs


@pytest.mark.parametrize("few", [0, 1000])
def test_copies_are_found_and_nothing_else(few, monkeypatch):
    monkeypatch.setattr(search, "FEW", few)
    prints, pairs = planted(120, 40)
    assert [(pair.first, pair.second) for pair in near_duplicates(prints)] == sorted(pairs)


def test_many_are_not_compared_one_by_one(monkeypatch):
    prints, pairs = planted(2000, 30)
    compared = []
    real = search.compare
    monkeypatch.setattr(search, "compare", lambda *args: compared.append(1) or real(*args))
    assert {(p.first, p.second) for p in near_duplicates(prints)} == set(pairs)
    assert len(compared) < 200  # of two million pairs


def test_scans_that_are_there_many_times_stay_together(monkeypatch):
    monkeypatch.setattr(search, "FEW", 0)
    monkeypatch.setattr(edges, "_RUN", 4)
    rng = np.random.default_rng(1)
    prints = [stranger(rng)] * 20 + [stranger(rng) for _ in range(20)]
    linked = {i for pair in near_duplicates(prints) for i in (pair.first, pair.second)}
    assert linked == set(range(20))


@pytest.mark.parametrize("few", [0, 1000])
def test_none_one_or_blank_ones(few, monkeypatch):
    monkeypatch.setattr(search, "FEW", few)
    one = stranger(np.random.default_rng(0))
    for prints in ([], [one], [blank(), blank()], [one, blank()], [blank(), one, one]):
        pairs = [(pair.first, pair.second) for pair in near_duplicates(prints)]
        assert pairs == ([(1, 2)] if len(prints) == 3 else [])


def test_the_more_pairs_the_more_is_asked_of_each():
    assert threshold(2) == threshold(100) == 100.0
    pairs = 30_000 * 29_999 / 2
    assert threshold(30_000) == pytest.approx(100 + 4.4 * math.log2(pairs / 1e4))


def test_edges_lead_to_the_nearest_of_those_before():
    one = stranger(np.random.default_rng(3))
    both = Edges([one, one])
    mine = both.owner == 0
    for start in range(len(one)):
        ends = both.end[mine & (both.start == start)]
        before = sorted(range(start), key=lambda j: float(np.linalg.norm(one.points[j] - one.points[start])))
        far = [float(np.linalg.norm(one.points[j] - one.points[start])) for j in ends]
        wanted = [float(np.linalg.norm(one.points[j] - one.points[start])) for j in before[:6]]
        assert sorted(far) == pytest.approx(wanted)


def test_leads_name_the_offset():
    rng = np.random.default_rng(3)
    one = stranger(rng)
    moved = Fingerprint(one.extent, one.points + np.array([10, 20, -6], np.float32), one.bright, one.codes)
    lead = Edges([one, moved, stranger(rng)]).leads()
    assert {(int(i), int(j)) for i, j in zip(lead.first, lead.second, strict=True)} == {(0, 1)}
    np.testing.assert_array_equal(lead.offset, [[-10, -20, 6]])
