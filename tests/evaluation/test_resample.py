import itertools

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.readers.turned import canonical
from lifelong_ct.data.resampling import prepare
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.inference import PAD_HU
from lifelong_ct.evaluation.resample import labels_to_grid, to_model, to_scan, upright_shape


def affine(spacing: tuple[float, ...], origin: tuple[float, ...] = (0, 0, 0)) -> np.ndarray:
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = origin
    return matrix


LABELS = np.arange(1, 9, dtype=np.uint8).reshape(2, 2, 2)


def test_the_same_grid_is_a_copy() -> None:
    result = labels_to_grid(LABELS, affine((1, 2, 3)), affine((1, 2, 3)), (2, 2, 2))
    assert np.array_equal(result, LABELS)
    assert result is not LABELS


def test_half_the_spacing_doubles_every_voxel() -> None:
    # voxel centres of the fine grid lie a quarter of a coarse voxel beside those of the coarse one
    fine = affine((1, 1, 1), (-0.5, -0.5, -0.5))
    result = labels_to_grid(LABELS, affine((2, 2, 2)), fine, (4, 4, 4))
    assert np.array_equal(result, LABELS.repeat(2, 0).repeat(2, 1).repeat(2, 2))


def test_a_shift_moves_and_leaves_background_outside() -> None:
    result = labels_to_grid(LABELS, affine((1, 1, 1)), affine((1, 1, 1), (1, 0, 0)), (2, 2, 2))
    assert np.array_equal(result[0], LABELS[1])
    assert not result[1].any()


def test_axes_may_be_turned_and_flipped() -> None:
    turned = np.array([[0, 0, 1.0, 0], [0, -1.0, 0, 1], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    result = labels_to_grid(LABELS, affine((1, 1, 1)), turned, (2, 2, 2))
    assert np.array_equal(result, LABELS.transpose(2, 1, 0)[:, ::-1])


def test_the_border_reaches_half_a_voxel_around_the_centres() -> None:
    line = np.array([[[7, 8]]], np.uint8)
    near = labels_to_grid(line, affine((1, 1, 1)), affine((1, 1, 0.2), (0, 0, -0.4)), (1, 1, 10))
    assert near.ravel().tolist() == [7] * 5 + [8] * 5
    beyond = labels_to_grid(line, affine((1, 1, 1)), affine((1, 1, 1), (0, 0, -0.6)), (1, 1, 4))
    assert beyond.ravel().tolist() == [0, 7, 8, 0]


def test_there_and_back_on_a_finer_grid_changes_nothing() -> None:
    labels = np.random.default_rng(0).integers(0, 10, (6, 7, 5)).astype(np.uint8)
    coarse, fine = affine((2.0, 1.7, 3.0), (10, -4, 3)), affine((0.9, 0.8, 1.3), (9.2, -4.3, 2.1))
    there = labels_to_grid(labels, coarse, fine, (14, 16, 13))
    assert np.array_equal(labels_to_grid(there, fine, coarse, labels.shape), labels)


def test_an_affine_that_cannot_be_inverted_is_told() -> None:
    with pytest.raises(DataError) as error:
        labels_to_grid(LABELS, np.zeros((4, 4)), affine((1, 1, 1)), (2, 2, 2))
    assert error.value.code == "bad_affine"


# --- what a model sees --------------------------------------------------------------------------------------


def scan(image: np.ndarray, matrix: np.ndarray) -> RawCase:
    return RawCase(image.astype(np.int16), None, matrix, ())


def turned(degrees: float, spacing: tuple[float, ...] = (2, 2, 2)) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(spacing)
    matrix[:3, 3] = 5, -7, 11
    return matrix


NOISE = np.random.default_rng(0).integers(-500, 500, (9, 8, 7))


@pytest.mark.parametrize("degrees", [0.0, 4.9, -4.9])
def test_a_scan_that_is_about_upright_is_seen_as_in_training(degrees: float) -> None:
    raw = scan(NOISE, turned(degrees))
    assert np.array_equal(to_model(raw, (1, 3, 2)).image, prepare(raw, (1, 3, 2)).image)
    assert to_model(raw, None) is raw


@pytest.mark.parametrize("degrees", [5.1, 20.0, -33.0])
@pytest.mark.parametrize("spacing", [None, (1.5, 2.5, 3.0)])
def test_an_oblique_scan_is_set_upright_around_its_middle(degrees: float, spacing: tuple | None) -> None:
    """A ramp along the body's own axes stays one, wherever it is sampled."""
    matrix = turned(degrees)
    where = np.stack(np.meshgrid(*map(np.arange, (21, 20, 9)), indexing="ij"), -1)
    at = where @ matrix[:3, :3].T + matrix[:3, 3]
    raw = scan(np.round(10 * at[..., 0] + 3 * at[..., 2]), matrix)
    seen = to_model(raw, spacing)
    np.testing.assert_allclose(seen.affine[:3, :3], np.diag(spacing or (2, 2, 2)), atol=1e-4)
    middle = [(np.array(n) - 1) / 2 for n in (seen.shape, raw.shape)]
    mm = [m.affine[:3, :3] @ k + m.affine[:3, 3] for m, k in zip((seen, raw), middle, strict=True)]
    np.testing.assert_allclose(mm[0], mm[1], atol=1e-6)
    grid = np.stack(np.meshgrid(*map(np.arange, seen.shape), indexing="ij"), -1)
    there = grid @ seen.affine[:3, :3].T + seen.affine[:3, 3]
    back = (there - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    inside = ((back >= 0) & (back <= np.array(raw.shape) - 1)).all(-1)
    wanted = 10 * there[..., 0] + 3 * there[..., 2]
    assert np.abs(seen.image - wanted)[inside].max() <= 1.5
    far = ((back < -1) | (back > np.array(raw.shape))).any(-1)
    assert (seen.image[far] == PAD_HU).all()
    corners = np.array([[a, b, c] for a in (0, 20) for b in (0, 19) for c in (0, 8)])
    found = (corners @ matrix[:3, :3].T + matrix[:3, 3] - seen.affine[:3, 3]) / np.diag(seen.affine)[:3]
    assert found.min() > -0.5 - 1e-6
    assert (found < np.array(seen.shape) - 0.5 + 1e-6).all()  # nothing of the scan is lost


def test_the_size_of_the_box_is_known_before_it_is_made() -> None:
    """40 × 40 × 9 voxels of 2 mm, turned by 45° in their plane, reach 40 √2 = 56.6 voxels along either axis."""
    assert upright_shape((40, 40, 9), turned(45), None) == (57, 57, 9)
    assert upright_shape((40, 40, 9), turned(45), (1, 2, 3)) == (114, 57, 6)
    assert upright_shape((40, 40, 9), turned(4), None) == (40, 40, 9)
    for degrees, spacing in itertools.product((0, 4, 20), (None, (1.5, 2.5, 3.0))):
        raw = scan(NOISE, turned(degrees))
        assert to_model(raw, spacing).shape == upright_shape(raw.shape, raw.affine, spacing)


def test_channels_are_set_upright_one_by_one() -> None:
    raw = scan(NOISE, turned(20))
    both = scan(np.stack([NOISE, -NOISE]), turned(20))
    one = to_model(raw, None).image
    assert np.array_equal(to_model(both, None).image[0], one)
    assert to_model(both, None).image.shape == (2, *one.shape)


def test_labels_of_an_oblique_scan_come_back_to_its_voxels() -> None:
    raw = scan(NOISE, turned(30))
    seen = to_model(raw, (0.4, 0.4, 0.4))
    labels = np.zeros(seen.shape, np.uint8)
    centre = np.array([4, 5, 3])  # of a ball, in voxels of the scan
    grid = np.stack(np.meshgrid(*map(np.arange, seen.shape), indexing="ij"), -1)
    there = grid @ seen.affine[:3, :3].T + seen.affine[:3, 3]
    mm = raw.affine[:3, :3] @ centre + raw.affine[:3, 3]
    labels[np.linalg.norm(there - mm, axis=-1) < 5.28] = 3
    own = np.stack(np.meshgrid(*map(np.arange, raw.shape), indexing="ij"), -1) - centre
    wanted = np.where(np.linalg.norm(2 * own, axis=-1) < 5.28, 3, 0)
    assert np.array_equal(to_scan(labels, seen, raw), wanted)


@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_quarter_turns_of_a_file_change_nothing_of_what_is_seen(degrees: float) -> None:
    """As a NIfTI keeps it: affines in single precision."""
    file = nib.Nifti1Image(NOISE.astype(np.int16), turned(degrees))
    first = None
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            image = file.as_reoriented(np.column_stack([axes, flips]))
            stored = np.asarray(image.affine, np.float32).astype(np.float64)
            raw = canonical(np.asarray(image.dataobj), stored, image.shape)
            seen = to_model(scan(raw.voxels, raw.affine), (1.5, 2.5, 3.0)).image
            first = seen if first is None else first
            assert np.array_equal(seen, first)
