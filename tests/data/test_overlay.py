"""Sets of organs per voxel, against the masks that were laid over one another."""

import tracemalloc

import numpy as np
import pytest

from lifelong_ct.data.overlay import NOBODY_KNOWS, Overlay, count_values
from lifelong_ct.data.sides import Midline
from lifelong_ct.data.vocabulary import default_vocabulary


def members(overlay: Overlay) -> np.ndarray:
    """Per voxel and organ whether it lies in it, `[organs, D, H, W]`."""
    return np.array([overlay.where(lambda found, organ=organ: organ in found) for organ in overlay.organs])


def test_any_number_of_masks_that_overlap_in_any_way():
    rng = np.random.default_rng(0)
    organs = [f"o{i}" for i in range(12)]
    masks = rng.random((12, 9, 8, 7)) < 0.5
    overlay = Overlay((9, 8, 7), organs)
    for organ, mask in zip(organs, masks, strict=True):
        overlay.add([organ], mask)
    assert len(overlay.sets) > 256
    assert overlay.label.dtype == np.uint16
    np.testing.assert_array_equal(members(overlay), masks)


@pytest.mark.parametrize(("count", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_it_widens_when_a_byte_is_full(count, dtype):
    organs = [f"o{i}" for i in range(count)]
    overlay = Overlay((1, 1, count), organs)
    for i, organ in enumerate(organs):
        mask = np.zeros((1, 1, count), bool)
        mask[..., i] = True
        overlay.add([organ], mask)
    assert overlay.label.dtype == dtype
    np.testing.assert_array_equal(overlay.label.ravel(), np.arange(1, count + 1))


def test_one_mask_of_several_organs_and_an_empty_one():
    overlay = Overlay((2, 2, 2), ["a", "b"])
    overlay.add(["a"], np.zeros((2, 2, 2), bool))
    assert overlay.sets == [()]
    overlay.add(["a", "b"], np.ones((2, 2, 2), bool))
    assert members(overlay).all()


def test_a_label_map_of_large_ids():
    ids = np.array([0, 7, 60000, 7], np.uint16).reshape(1, 2, 2)
    overlay = Overlay(ids.shape, ["a", "b"])
    overlay.fill(ids, {0: (), 7: (0, 1), 60000: (NOBODY_KNOWS,)}.__getitem__)
    np.testing.assert_array_equal(members(overlay)[0], ids == 7)
    assert overlay.sets == [(), (0, 1), (NOBODY_KNOWS,)]
    np.testing.assert_array_equal(overlay.profiles(), [[1], [2], [1]])


def test_voxels_are_counted_plane_by_plane():
    label = np.random.default_rng(1).integers(0, 5, (6, 7, 8)).astype(np.uint8)
    counts = count_values(label, 9)
    assert counts.shape == (6, 9)
    np.testing.assert_array_equal(counts[:, :5], [[(plane == v).sum() for v in range(5)] for plane in label])
    assert not counts[:, 5:].any()


def test_only_voxels_of_both_sides_are_split():
    overlay = Overlay((10, 2, 2), ["kidney_left", "kidney_right", "spleen"])
    everywhere = np.zeros((10, 2, 2), bool)
    everywhere[1:4] = everywhere[6:9] = True
    far = np.zeros((10, 2, 2), bool)
    far[9] = True
    overlay.add(["kidney_left", "kidney_right", "spleen"], everywhere)
    overlay.add(["kidney_left"], far)  # told already, whatever the side
    pairs = [("kidney_left", "kidney_right"), ("lung_left", "lung_right")]
    overlay.split(pairs, np.eye(4), Midline(4.5, 0.0, True), default_vocabulary())
    left, right, spleen = members(overlay)
    expected = np.zeros((10, 2, 2), bool)
    expected[1:4] = expected[9] = True
    np.testing.assert_array_equal(left, expected)
    np.testing.assert_array_equal(right, everywhere & ~expected)
    np.testing.assert_array_equal(spleen, everywhere)


def test_many_masks_cost_little_more_than_their_boxes():
    """One byte a voxel is held, and one beside it while the result is made, whatever the number of masks."""
    shape, count = (96, 96, 96), 25
    voxels = 96**3
    masks = np.zeros((count, *shape), bool)
    for i in range(count):
        masks[i, 3 * i : 3 * i + 20, 10:40, 10:40] = True
    tracemalloc.start()
    overlay = Overlay(shape, [f"o{i}" for i in range(count)])
    for i, mask in enumerate(masks):
        overlay.add([f"o{i}"], mask)
    overlay.profiles()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * voxels
