"""Noise, resolution and contrast of the scanner."""

import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.phantom import Scanner
from lifelong_ct.data.phantom.tissue import PHASES, mean_attenuation, patient_attenuation

WATER = np.zeros((48, 48, 48))


@pytest.mark.parametrize("grain", [0.0, 2.0, 6.0])
def test_noise_has_the_stated_deviation_whatever_its_texture(grain):
    scans = [Scanner(noise=20.0, grain=grain).scan(WATER, generator("t", i)) for i in range(8)]
    assert np.mean([scan.std() for scan in scans]) == pytest.approx(20.0, rel=0.08)


def test_grain_correlates_neighbours_in_the_plane_only():
    """Gaussian-filtered white noise of width s: neighbours one step d apart correlate by exp(-d² / 4s²)."""
    scan = Scanner(spacing=(5, 5, 5), noise=100.0, grain=5.0).scan(np.zeros((64, 64, 64)), generator("t"))
    noise = scan - scan.mean()
    along = [(noise.take(range(63), a) * noise.take(range(1, 64), a)).mean() / noise.var() for a in range(3)]
    assert along[0] == pytest.approx(np.exp(-0.25), abs=0.05)
    assert along[1] == pytest.approx(np.exp(-0.25), abs=0.05)
    assert along[2] == pytest.approx(0.0, abs=0.03)


def test_thickness_is_the_full_width_at_half_maximum_of_a_thin_sheet():
    sheet = np.zeros((8, 8, 65))
    sheet[:, :, 32] = 1000.0
    profile = Scanner(spacing=(5, 5, 1), thickness=8.0, kernel=0.0, noise=0.0).scan(sheet, generator("t"))[
        4, 4
    ]
    half = np.flatnonzero(profile >= profile.max() / 2)
    assert half[-1] - half[0] == pytest.approx(8, abs=1)


def test_sharp_kernels_overshoot():
    edge = np.zeros((32, 8, 8))
    edge[16:] = 100.0
    soft, sharp = (Scanner(noise=0.0, sharpen=s).scan(edge, generator("t")) for s in (0.0, 0.8))
    assert soft.max() <= 100
    assert sharp.max() > 103


def test_scans_stay_within_twelve_bits():
    scan = Scanner(noise=0.0).scan(np.array([[[-5000.0, 9000.0]] * 8] * 8), generator("t"))
    assert scan.dtype == np.int16
    assert scan.min() >= -1024
    assert scan.max() <= 3071


def test_a_scanner_without_extent_is_refused():
    with pytest.raises(LifelongCTError, match="positive"):
        Scanner(spacing=(5, 5, 0))


def test_published_relations_between_phases_hold():
    plain, arterial, portal = (PHASES[p] for p in ("unenhanced", "arterial", "portal_venous"))
    assert 1 <= plain["liver"] - plain["spleen"] <= 18  # Park et al.
    assert 290 <= arterial["aorta"] <= 360
    assert 20 <= arterial["liver"] - plain["liver"] <= 30
    assert 195 <= arterial["cortex"] - plain["cortex"] <= 217
    assert 110 <= arterial["cortex"] - arterial["medulla"] <= 140
    assert portal["cortex"] - portal["medulla"] < 30


def test_replaced_tissues_do_not_follow_the_uptake():
    rngs = (generator("t", i) for i in range(40))
    livers = [patient_attenuation("arterial", {"liver": 300.0}, rng)["liver"] for rng in rngs]
    assert np.mean(livers) == pytest.approx(300, abs=5)
    assert np.std(livers) < 10
    assert mean_attenuation("arterial", {"kidney": 7.0})["medulla"] == 7.0
