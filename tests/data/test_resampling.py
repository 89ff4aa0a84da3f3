"""Resampling in mm, against scipy and closed forms, and slab by slab as in one piece."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from lifelong_ct.data import resampling
from lifelong_ct.data.resampling import between_bytes, linear, prepare
from lifelong_ct.data.types import RawCase
from lifelong_ct.training.prediction.allocator import allocated

OBLIQUE = np.array([[0, -1.5, 0, 30], [2.0, 0, 0, -7], [0, 0, 5.0, 11], [0, 0, 0, 1]])
NEW_SPACINGS = [(1.0, 1.0, 1.0), (3.0, 1.5, 4.0), (2.0, 0.7, 20.0), (5.0, 6.0, 2.5)]


def raw(shape=(12, 10, 6), channels=None, seed=0) -> RawCase:
    rng = np.random.default_rng(seed)
    image = rng.integers(-1000, 1000, shape if channels is None else (channels, *shape)).astype(np.int16)
    label = rng.integers(0, 4, shape).astype(np.uint8)
    return RawCase(image, label, OBLIQUE, ("liver", "spleen", "pancreas"))


def in_mm(affine, shape) -> np.ndarray:
    """`[3, D, H, W]`, mm of every voxel centre."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    return np.einsum("ij,jdhw->idhw", affine[:3, :3], index) + affine[:3, 3, None, None, None]


def edges(affine, shape) -> np.ndarray:
    """`[2, 3]`, mm of the outer corners of the first and the last voxel."""
    ends = np.array([[-0.5] * 3, np.array(shape) - 0.5])
    return ends @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("spacing", [None, (2.0, 1.5, 5.0)])
def test_the_same_spacing_changes_nothing(spacing):
    case = raw()
    assert prepare(case, spacing) is case


@pytest.mark.parametrize("spacing", NEW_SPACINGS)
def test_the_spacing_is_met_and_the_corners_stay(spacing):
    case = raw()
    ready = prepare(case, spacing)
    wanted = np.array(case.image.shape) * case.spacing / np.array(spacing)
    assert np.abs(ready.image.shape - wanted).max() <= 0.5
    assert ready.label.shape == ready.image.shape
    np.testing.assert_allclose(edges(ready.affine, ready.image.shape), edges(OBLIQUE, case.image.shape))
    turn = ready.affine[:3, :3] / np.linalg.norm(ready.affine[:3, :3], axis=0)
    np.testing.assert_allclose(turn, OBLIQUE[:3, :3] / np.linalg.norm(OBLIQUE[:3, :3], axis=0), atol=1e-12)


@pytest.mark.parametrize("spacing", NEW_SPACINGS)
def test_a_linear_image_keeps_its_values_in_mm(spacing):
    slope = np.array([7.0, -5.0, 9.0])

    def ramp(affine, shape):
        return np.tensordot(slope, in_mm(affine, shape), 1)

    image = ramp(OBLIQUE, (12, 10, 6)).round().astype(np.int16)
    ready = prepare(replace(raw(), image=image), spacing)
    expected = ramp(ready.affine, ready.image.shape)
    index = np.linalg.inv(OBLIQUE) @ np.vstack(
        [in_mm(ready.affine, ready.image.shape).reshape(3, -1), np.ones(ready.image.size)]
    )
    last = np.array(image.shape)[:, None] - 1
    inside = ((index[:3] >= -1e-9) & (index[:3] <= last + 1e-9)).all(0).reshape(ready.image.shape)
    assert inside.sum() >= 8
    # rounding to whole HU, before and after
    assert np.abs(ready.image - expected)[inside].max() <= 1.0 + 1e-3


@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize("spacing", NEW_SPACINGS)
def test_the_image_is_linear_and_the_label_nearest_as_of_scipy(spacing, channels):
    case = raw(channels=channels)
    ready = prepare(case, spacing)
    grid = np.linalg.inv(case.affine) @ ready.affine
    shape = ready.image.shape[-3:]
    for mine, source in zip(
        ready.image.reshape(-1, *shape), case.image.reshape(-1, *case.image.shape[-3:]), strict=True
    ):
        peer = ndimage.affine_transform(
            source.astype(float), grid[:3, :3], grid[:3, 3], shape, order=1, mode="nearest"
        )
        assert np.abs(mine - peer).max() <= 0.5 + 1e-2
    centres = np.linalg.inv(case.affine) @ np.vstack(
        [in_mm(ready.affine, shape).reshape(3, -1), np.ones(np.prod(shape))]
    )
    apart = np.abs(centres[:3] - np.round(centres[:3]))
    nearest = np.round(centres[:3]).astype(int).clip(0, np.array(case.label.shape)[:, None] - 1)
    unique = (apart < 0.5 - 1e-6).all(0)
    np.testing.assert_array_equal(
        ready.label.reshape(-1)[unique], case.label[tuple(nearest)][unique], strict=True
    )
    assert ready.label.dtype == case.label.dtype


def test_a_thin_axis_keeps_a_voxel_and_no_label_stays_none():
    ready = prepare(replace(raw((12, 10, 1)), label=None), (2.0, 1.5, 100.0))
    assert ready.image.shape == (12, 10, 1)
    ready = prepare(replace(raw((12, 10, 1)), label=None), (4.0, 1.5, 100.0))
    assert ready.image.shape == (6, 10, 1)
    assert ready.label is None


def test_what_else_a_case_holds_stays():
    case = replace(raw(), original_affine=np.eye(4), original_shape=(6, 10, 12))
    ready = prepare(case, (1.0, 1.0, 1.0))
    assert ready.organs == case.organs
    assert ready.original_shape == case.original_shape
    np.testing.assert_array_equal(ready.original_affine, np.eye(4))


@pytest.mark.parametrize("slab", [1, 100, 1000, 1 << 22])
def test_slabs_are_one_piece_to_the_last_bit(slab, monkeypatch):
    monkeypatch.setattr(resampling, "SLAB", slab)
    rng = np.random.default_rng(slab)
    for _ in range(25):
        old, new = rng.integers(1, 34, 3), tuple(int(n) for n in rng.integers(1, 40, 3))
        image = rng.integers(-1024, 3072, old).astype(np.int16)
        whole = torch.nn.functional.interpolate(
            torch.from_numpy(image)[None, None].float(), size=new, mode="trilinear", align_corners=False
        )
        np.testing.assert_array_equal(linear(image, new), whole[0, 0].round().to(torch.int16).numpy())


@pytest.mark.parametrize("new", [(20, 60, 50), (90, 12, 31)])
def test_what_it_holds_in_between_is_told(new, monkeypatch):
    monkeypatch.setattr(resampling, "SLAB", 2000)
    image = np.zeros((40, 30, 25), np.int16)
    most = allocated(lambda: linear(image, new))
    told = between_bytes(image.shape, new) + 2 * math.prod(new)
    slab = 2 * 4 * max(60 * 50, 90 * 50)  # a row of it in and out, at least
    assert told <= most <= told + 2 * slab
