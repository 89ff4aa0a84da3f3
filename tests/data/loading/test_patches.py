"""Patches against slices of the source, codes against a look-up per voxel."""

import numpy as np
import pytest

from lifelong_ct.data.loading.patches import PAD_HU, Coder, read_into

RNG = np.random.default_rng(0)


class InMemory:
    """A volume of random voxels; notes the boxes that are read."""

    def __init__(self, shape, channels=1, values=4):
        self.shape, self.boxes = shape, []
        self.image = RNG.integers(-900, 900, (channels, *shape)).astype(np.int16)
        self.label = RNG.integers(0, values, shape).astype(np.uint8)

    def read(self, start, size):
        self.boxes.append((start, size))
        cut = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
        return self.image[(slice(None), *cut)], self.label[cut]


@pytest.mark.parametrize("ids", [1, 2, 9, 40, 300])
@pytest.mark.parametrize("label_type", [np.uint8, np.uint16])
@pytest.mark.parametrize("code_type", [np.uint8, np.uint16])
def test_codes_are_those_of_a_look_up(ids, label_type, code_type):
    ids = min(ids, np.iinfo(label_type).max + 1)
    label = RNG.integers(0, ids, (19, 5, 7)).astype(label_type)
    for lut in (
        np.arange(ids) % 256,  # nothing moves
        np.where(np.arange(ids) == 0, 160, np.arange(ids) % 256),  # only the background
        RNG.integers(0, 256, ids),  # everything
        np.full(ids, 255),
    ):
        out = np.zeros((19, 5, 9), code_type)
        Coder(lut.astype(code_type), code_type)(label, out[:, :, 1:8])
        np.testing.assert_array_equal(out[:, :, 1:8], lut[label])
        assert not out[:, :, [0, 8]].any()


def test_codes_beyond_a_byte():
    lut = np.array([300, 1, 2, 256], np.uint16)
    label = RNG.integers(0, 4, (4, 4, 4)).astype(np.uint8)
    out = np.zeros((4, 4, 4), np.uint16)
    Coder(lut, np.uint16)(label, out)
    np.testing.assert_array_equal(out, lut[label])


def test_a_label_without_a_code_is_an_error():
    with pytest.raises(IndexError):
        Coder(np.arange(3), np.uint8)(np.full((2, 2, 2), 3, np.uint8), np.zeros((2, 2, 2), np.uint8))


@pytest.mark.parametrize("start", [(0, 0, 0), (3, 2, 1), (-2, 0, 4), (5, -3, -1), (-1, -1, -1)])
def test_a_patch_is_the_slice_of_the_padded_source(start):
    volume = InMemory((12, 11, 10), channels=2)
    lut, size = np.array([160, 3, 1, 2], np.uint8), (6, 14, 8)
    x, y = np.empty((2, *size), np.int16), np.empty((1, *size), np.uint8)
    read_into(volume, start, Coder(lut, np.uint8), x, y, 255)
    wide = [(0, 0), *[(20, 20)] * 3]
    cut = tuple(slice(20 + s, 20 + s + n) for s, n in zip(start, size, strict=True))
    np.testing.assert_array_equal(x, np.pad(volume.image, wide, constant_values=PAD_HU)[(slice(None), *cut)])
    np.testing.assert_array_equal(y[0], np.pad(lut[volume.label], wide[1:], constant_values=255)[cut])
    assert len(volume.boxes) == 1


def test_what_was_in_the_buffers_before_is_gone():
    volume = InMemory((4, 4, 4))
    x, y = np.full((1, 6, 6, 6), 77, np.int16), np.full((1, 6, 6, 6), 77, np.uint8)
    read_into(volume, (-1, -1, -1), Coder(np.arange(4), np.uint8), x, y, 255)
    outside = np.ones((6, 6, 6), bool)
    outside[1:5, 1:5, 1:5] = False
    assert set(np.unique(x[0][outside])) == {PAD_HU} == {-1024}
    assert set(np.unique(y[0][outside])) == {255}
