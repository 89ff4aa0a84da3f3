"""Pairs that a sceptic would make: refused where the numbers cannot be HU, else read."""

from pathlib import Path

import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.scales import to_int16

HERE = Path("scan.nii.gz")


def body() -> np.ndarray:
    """An abdomen in air: noise of 15 HU, fat, soft tissue, some bone."""
    rng = np.random.default_rng(0)
    voxels = np.full((32, 32, 16), -1000.0)
    voxels[4:28, 6:26] = -90
    voxels[7:25, 9:23] = 50
    voxels[14:18, 10:13] = 700
    return np.maximum(np.rint(voxels + rng.normal(0, 15, voxels.shape)), -1024)


def padded(value: float) -> np.ndarray:
    voxels = body()
    voxels[:3] = value
    return voxels


ACCEPTED = {
    "as it is": body(),
    "one with a padding of -2000": padded(-2000),
    "one with a padding of -3024": padded(-3024),
    "one with a padding of 0": padded(0),
    "metal": np.where(body() > 600, 3071, body()),
    "12 bits less 1024": np.clip(body(), -1024, 3071),
    "a tiny field of view, fat and organ and bone": body()[6:24, 10:20],
    "a lung at -900": np.where(body() > 20, body() - 900, body()),
}
REFUSED = {
    "offset of 1024, no intercept": (body() + 1024).astype(np.uint16),
    "12 bits unsigned": np.clip(body() + 1024, 0, 4095).astype(np.uint16),
    "negated": -body(),
    "clipped to [-200, 300]": np.clip(body(), -200, 300),
    "clipped to [-175, 400]": np.clip(body(), -175, 400),
    "clipped at 0": np.maximum(body(), 0),
    "an MR scan": np.maximum(body() + 1000, 0),
    "in [0, 1]": (body() + 1024) / 4096,
    "8 bits": np.clip((body() + 175) / 425 * 255, 0, 255).astype(np.uint8),
    "air alone": body()[:3],
}


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_real_hu_pass_unchanged(name, dtype):
    voxels = ACCEPTED[name].astype(dtype)
    image, scale = to_int16(HERE, voxels, "CT")
    assert scale == (1.0, 0.0)
    np.testing.assert_array_equal(image, np.maximum(voxels, -1024))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_hu_is_refused(name):
    with pytest.raises(DataError) as caught:
        to_int16(HERE, REFUSED[name], "CT")
    assert caught.value.code == "implausible-hu"
    assert HERE.name in caught.value.where
    assert caught.value.fix


SCALED = {
    "1024 too few": body() - 1024,
    "1024 too many, with padding": np.where(np.arange(32)[:, None, None] < 1, -100, body() + 1024),
    "twice": 2 * body(),
    "half": body() / 2,
    "ten times": 10 * body(),
    "negated, with bone beyond its air": -np.where(body() > 600, 1500, body()),
    "one voxel of no material": np.where(np.arange(body().size).reshape(body().shape) == 77, 1e6, body()),
    "no tissue": np.where(np.abs(body()) < 400, -1000, body()),
}


@pytest.mark.parametrize("name", SCALED)
def test_what_was_scaled_or_shifted_is_refused(name):
    with pytest.raises(DataError) as caught:
        to_int16(HERE, SCALED[name].astype(np.float32), "CT")
    assert caught.value.code == "implausible-hu"


def test_the_rim_that_resampling_leaves_beside_padding_is_none():
    voxels = body()
    voxels[:3] = -3024
    voxels[3, :, :4] = -1900  # 12 % of a plane in 32
    image, _ = to_int16(HERE, voxels, "CT")
    assert (image[:4, :, :4] == -1024).all()


def test_a_large_scan_is_looked_at_in_part_and_gets_the_same_verdict():
    large = np.tile(body(), (4, 4, 8))  # 2 million voxels
    to_int16(HERE, large.astype(np.int16), "CT")
    with pytest.raises(DataError, match="colder than air"):
        to_int16(HERE, (large - 1024).astype(np.int16), "CT")
