"""Key points lie where blobs are, whatever the grid, the type or the window of a copy."""

import tracemalloc

import numpy as np
import pytest

from lifelong_ct.data.fingerprint import compare, fingerprint, working_bytes

PLACES = np.array([[45.0, 45.0, 45.0], [90.0, 60.0, 48.0], [60.0, 105.0, 75.0], [105.0, 105.0, 42.0]])
"""mm from the first voxel of a cube of 150 mm."""
SIGNS = np.array([1, -1, 1, -1])


def scan(spacing=(3.0, 3.0, 3.0), turn=None, places=PLACES, signs=SIGNS):
    """Round blobs 6 mm wide in soft tissue, bright ones and dark ones, around them air in a corner; HU as float32."""
    shape = tuple(int(150 / s) + 1 for s in spacing)
    affine = np.diag([*spacing, 1.0])
    if turn is not None:
        affine[:3, :3] = turn @ affine[:3, :3]
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1) * np.array(spacing)
    hu = np.full(shape, 40.0)
    for place, sign in zip(places, signs, strict=True):
        hu += sign * 120 * np.exp(-((at - place) ** 2).sum(axis=-1) / (2 * 6.0**2))
    hu[(at < 12).all(axis=-1)] = -1000
    return hu.astype(np.float32), affine


def nearest(points, places):
    return np.linalg.norm(points[:, None] - places, axis=2).min(axis=0)


@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (1.0, 1.0, 2.0), (2.0, 1.5, 5.0), (0.8, 3.0, 6.0)])
def test_a_round_blob_is_a_key_point_at_its_middle(spacing):
    print_ = fingerprint(*scan(spacing))
    skipped = [min(max(1, int(3 / s + 1e-3)), 9) for s in spacing]  # the first place is the middle of a block
    first = (np.array(skipped) - 1) / 2 * spacing
    for sign in (1, -1):
        found = print_.points[print_.bright == (sign > 0)]
        assert nearest(found, PLACES[sign == SIGNS] - first).max() < 2.5


def test_the_longer_a_scan_the_more_key_points_but_never_many():
    rng = np.random.default_rng(0)
    small, large = (rng.normal(40, 300, (n, n, n)).astype(np.float32) for n in (40, 170))
    assert len(fingerprint(small, np.diag([3.0, 3, 3, 1]))) == 80
    assert len(fingerprint(large, np.diag([3.0, 3, 3, 1]))) == 192


def test_a_ridge_has_no_key_point():
    hu, affine = scan(signs=np.zeros(4))
    at = np.moveaxis(np.indices(hu.shape), 0, -1) * 3.0
    hu += 300 * np.exp(-((at[..., :2] - 75) ** 2).sum(axis=-1) / (2 * 6.0**2))  # along the third axis
    points = fingerprint(hu, affine).points
    assert not (np.abs(points[:, :2] - 75) < 15).all(axis=1).any()


def test_types_offsets_and_windows_of_hu_change_nothing():
    hu, affine = scan()
    hu = np.rint(hu)
    hu[0, 0, 0] = 2000  # so that the range is that of a CT
    plain = fingerprint(hu, affine).to_bytes()
    for copy in (
        hu.astype(np.int16),
        hu.astype(np.float64),
        (hu + 1024).clip(0).astype(np.uint16),
        np.clip(hu, -1000, 400),
        np.clip(hu, -175, 250),
    ):
        assert fingerprint(copy, affine).to_bytes() == plain


def test_a_window_stretched_to_other_numbers_shows_the_same_places():
    hu, affine = scan()
    window = (np.clip(hu, -175, 250) + 175) / 425
    plain = fingerprint(hu, affine)
    for copy in (window, np.rint(window * 255).astype(np.uint8)):
        print_ = fingerprint(copy, affine)
        assert nearest(print_.points, PLACES).max() < 2.5
    assert compare(plain, fingerprint(window, affine)).points >= 4


def test_mr_has_no_unit():
    hu, affine = scan()
    one, two = fingerprint(hu, affine, "MR"), fingerprint(hu * 3 + 5000, affine, "MR")
    assert nearest(two.points, PLACES).max() < 2.5
    assert compare(one, two).points >= 4


def test_an_oblique_grid_is_laid_along_the_patient():
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    print_ = fingerprint(*scan(turn=turn))
    corners = np.array([[x, y, z] for x in (0, 150) for y in (0, 150) for z in (0, 150)]) @ turn.T
    assert nearest(print_.points, PLACES @ turn.T - corners.min(axis=0)).max() < 2.5
    np.testing.assert_allclose(print_.extent, np.ptp(corners, axis=0), atol=3)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros((20, 20, 20), np.int16),
        np.full((20, 20, 20), np.nan, np.float32),
        np.where(np.indices((20, 20, 20)).sum(axis=0) == 9, np.inf, 40.0),
        np.where(np.indices((20, 20, 20)).sum(axis=0) % 2, 0, 1),
        np.where(np.indices((20, 20, 20)).sum(axis=0) % 2, -3e38, 3e38).astype(np.float32),
        np.random.default_rng(0).integers(-1000, 1000, (20, 20, 2)).astype(np.int16),
        np.random.default_rng(0).integers(0, 2**62, (5, 2, 3)),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_shows_nothing_has_a_fingerprint_without_surprises(voxels, modality):
    assert len(fingerprint(voxels, np.diag([2.0, 2, 2, 1]), modality)) <= 80


def test_it_takes_no_more_memory_than_it_says():
    rng = np.random.default_rng(0)
    for shape, spacing in (((60, 60, 60), 3.0), ((40, 40, 200), 2.0), ((30, 30, 30), 9.0)):
        voxels, affine = rng.normal(0, 300, shape).astype(np.int16), np.diag([spacing] * 3 + [1.0])
        tracemalloc.start()
        fingerprint(voxels, affine)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= working_bytes(shape, affine)
