"""Labels that are coded on the way into a batch, against a look-up per voxel."""

import numpy as np
import pytest

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import bricks
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import BrickCache, StoredVolume

RNG = np.random.default_rng(0)
SHAPE = (40, 34, 70)


def stored(path, label, channels=1):
    image = RNG.integers(-900, 900, (channels, *label.shape)).astype(np.int16)
    organs = tuple(f"organ {i}" for i in range(int(label.max())))
    path.write_bytes(bricks.pack(RawCase(image, label, np.eye(4), organs)))
    return image, StoredVolume("v", path, BrickCache(1 << 24, Ledger()))


@pytest.mark.parametrize("ids", [1, 2, 9, 40, 300])
@pytest.mark.parametrize("label_type", [np.uint8, np.uint16])
@pytest.mark.parametrize("code_type", [np.uint8, np.uint16])
def test_codes_are_those_of_a_look_up(tmp_path, ids, label_type, code_type):
    ids = min(ids, np.iinfo(label_type).max + 1)
    label = RNG.integers(0, ids, SHAPE).astype(label_type)
    label[:32, :32, :64] = ids - 1  # a brick of one label
    label[32:, :32, :64] = 0
    _, volume = stored(tmp_path / "v", label)
    cut = (slice(3, 40), slice(0, 34), slice(1, 69))
    for lut in (
        np.arange(ids) % 256,  # nothing moves
        np.where(np.arange(ids) == 0, 160, np.arange(ids) % 256),  # only the background
        RNG.integers(0, 256, ids),  # everything
        np.full(ids, 255),
    ):
        out = np.full((37, 34, 70), 7, code_type)
        volume.read((3, 0, 1), (37, 34, 68), label=out[:, :, 1:69], lut=lut.astype(code_type))
        np.testing.assert_array_equal(out[:, :, 1:69], lut[label[cut]])
        assert (out[:, :, [0, 69]] == 7).all()


def test_codes_beyond_a_byte(tmp_path):
    label = RNG.integers(0, 4, SHAPE).astype(np.uint8)
    lut = np.array([300, 1, 2, 256], np.uint16)
    _, volume = stored(tmp_path / "v", label)
    codes = volume.read((0, 0, 0), SHAPE, lut=lut)[1]
    assert codes.dtype == np.uint16
    np.testing.assert_array_equal(codes, lut[label])


def test_a_label_without_a_code_is_an_error(tmp_path):
    label = RNG.integers(0, 4, SHAPE).astype(np.uint8)
    _, volume = stored(tmp_path / "v", label)
    with pytest.raises(IndexError, match="label 3 of 3"):
        volume.read((0, 0, 0), (1, 1, 1), lut=np.arange(3, dtype=np.uint8))


def test_a_batch_is_written_where_it_lies(tmp_path):
    label = RNG.integers(0, 3, SHAPE).astype(np.uint8)
    image, volume = stored(tmp_path / "v", label, channels=2)
    x = np.full((3, 2, 30, 20, 68), 5, np.int16)
    y = np.full((3, 30, 22, 68), 9, np.uint8)
    volume.read((3, 5, 1), (30, 20, 68), x[1], y[1, :, 2:])
    cut = (slice(3, 33), slice(5, 25), slice(1, 69))
    np.testing.assert_array_equal(x[1], image[(slice(None), *cut)])
    np.testing.assert_array_equal(y[1, :, 2:], label[cut])
    assert (x[::2] == 5).all()
    assert (y[::2] == 9).all()
    assert (y[1, :, :2] == 9).all()
