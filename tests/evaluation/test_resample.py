import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.evaluation.resample import labels_to_grid


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
