"""Patches against slices of the source."""

import numpy as np
import pytest

from lifelong_ct.data.loading.patches import PAD_HU, read_into

RNG = np.random.default_rng(0)


class InMemory:
    """A volume of random voxels; notes the boxes that are read."""

    def __init__(self, shape, channels=1, values=4):
        self.shape, self.boxes = shape, []
        self.image = RNG.integers(-900, 900, (channels, *shape)).astype(np.int16)
        self.label = RNG.integers(0, values, shape).astype(np.uint8)

    def read(self, start, size, image=None, label=None, lut=None):
        self.boxes.append((start, size))
        cut = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
        image[...] = self.image[(slice(None), *cut)]
        label[...] = lut[self.label[cut]]
        return image, label


@pytest.mark.parametrize("start", [(0, 0, 0), (3, 2, 1), (-2, 0, 4), (5, -3, -1), (-1, -1, -1)])
def test_a_patch_is_the_slice_of_the_padded_source(start):
    volume = InMemory((12, 11, 10), channels=2)
    lut, size = np.array([160, 3, 1, 2], np.uint8), (6, 14, 8)
    x, y = np.empty((2, *size), np.int16), np.empty((1, *size), np.uint8)
    read_into(volume, start, lut, x, y, 255)
    wide = [(0, 0), *[(20, 20)] * 3]
    cut = tuple(slice(20 + s, 20 + s + n) for s, n in zip(start, size, strict=True))
    np.testing.assert_array_equal(x, np.pad(volume.image, wide, constant_values=PAD_HU)[(slice(None), *cut)])
    np.testing.assert_array_equal(y[0], np.pad(lut[volume.label], wide[1:], constant_values=255)[cut])
    assert len(volume.boxes) == 1


def test_what_was_in_the_buffers_before_is_gone():
    volume = InMemory((4, 4, 4))
    x, y = np.full((1, 6, 6, 6), 77, np.int16), np.full((1, 6, 6, 6), 77, np.uint8)
    read_into(volume, (-1, -1, -1), np.arange(4, dtype=np.uint8), x, y, 255)
    outside = np.ones((6, 6, 6), bool)
    outside[1:5, 1:5, 1:5] = False
    assert set(np.unique(x[0][outside])) == {PAD_HU} == {-1024}
    assert set(np.unique(y[0][outside])) == {255}
