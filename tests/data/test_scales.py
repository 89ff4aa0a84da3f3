"""int16 for every modality: the rule, its bounds, and its way through resampling and the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.images import read_image
from lifelong_ct.data.ingest import prepare
from lifelong_ct.data.scales import MODALITIES, each_modality, to_int16
from lifelong_ct.data.store import VolumeStore

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FILE = Path("a.nii.gz")
SHAPE = (20, 18, 16)


def magnitudes(scale=1.0, seed=0, dtype=np.float32) -> np.ndarray:
    """Like MR: skewed, without a unit, positive."""
    return (np.random.default_rng(seed).gamma(2.0, 100.0, SHAPE) * scale + 1).astype(dtype)


def back(image: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    return image * scale[0] + scale[1]


def code(call) -> str:
    with pytest.raises(DataError) as caught:
        call()
    assert caught.value.fix
    return caught.value.code


@pytest.mark.parametrize("modality", ["MR", "US"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_the_robust_range_fills_the_window_and_numbers_come_back(modality, dtype):
    voxels = magnitudes(0.2 if dtype == np.uint8 else 1.0, dtype=dtype)
    image, (slope, offset) = to_int16(FILE, voxels, modality)
    low, high = np.quantile(voxels[voxels != 0].astype(np.float64), [0.005, 0.995])
    assert image.dtype == np.int16
    assert -175 * slope + offset == pytest.approx(low, rel=1e-5)
    assert 250 * slope + offset == pytest.approx(high, rel=1e-5)
    assert np.abs(back(image, (slope, offset)) - voxels).max() <= slope / 2 * 1.001
    if dtype == np.uint8:  # steps of the file are wider than those of the scale: nothing is lost
        np.testing.assert_array_equal(np.rint(back(image, (slope, offset))), voxels)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_makes_no_difference(factor):
    np.testing.assert_allclose(
        to_int16(FILE, magnitudes(), "MR")[0], to_int16(FILE, (magnitudes() * factor), "MR")[0], atol=1
    )


def test_padding_with_zeros_makes_no_difference():
    voxels = magnitudes()
    padded = np.pad(voxels, 30)
    image, scale = to_int16(FILE, voxels, "MR")
    more, same = to_int16(FILE, padded, "MR")
    assert same == scale
    np.testing.assert_array_equal(more[30:-30, 30:-30, 30:-30], image)
    assert more[0, 0, 0] <= -175  # the darkest that a model sees


def test_single_bright_voxels_neither_move_the_scale_nor_overflow():
    voxels = magnitudes()
    bright = voxels.copy()
    bright[0, 0, :5] = 1e9
    image, scale = to_int16(FILE, bright, "MR")
    assert scale[0] == pytest.approx(to_int16(FILE, voxels, "MR")[1][0], rel=0.05)
    assert (image[0, 0, :5] == 32767).all()


def test_ct_is_hu_as_it_was():
    voxels = np.random.default_rng(0).integers(-1300, 3000, SHAPE)
    for dtype in (np.int16, np.int32, np.float32):
        image, scale = to_int16(FILE, voxels.astype(dtype), "CT")
        np.testing.assert_array_equal(image, np.maximum(voxels, -1024))
        assert scale == (1.0, 0.0)
    with pytest.raises(DataError, match="lighter than water"):  # unsigned, and nothing says the offset
        to_int16(FILE, (voxels + 1300).astype(np.uint16), "CT")


def test_a_shape_fills_the_window_and_a_distance_is_a_tenth_of_a_mm():
    share = np.zeros(SHAPE, np.float32)
    share[5:9], share[9] = 1, 0.5
    image, scale = to_int16(FILE, share, "SHAPE")
    assert (image.min(), image.max()) == (-175, 250)
    assert np.abs(back(image, scale) - share).max() <= 0.5 / 425 + 1e-9
    distance = np.linspace(-30, 50, np.prod(SHAPE)).reshape(SHAPE)
    image, scale = to_int16(FILE, distance, "SDF")
    assert np.abs(back(image, scale) - distance).max() <= 0.05 + 1e-9
    assert image[0, 0, 0] > image[-1, -1, -1]  # the inside is bright


@pytest.mark.parametrize(
    ("voxels", "modality", "expected"),
    [
        (np.zeros(SHAPE), "MR", "constant-image"),
        (np.full(SHAPE, 7.0), "MR", "constant-image"),
        (np.pad(np.full((4, 4, 4), 7), 3), "US", "constant-image"),
        (np.where(np.indices(SHAPE)[0] == 0, np.nan, 1.0), "MR", "non-finite"),
        (np.where(np.indices(SHAPE)[0] == 0, -1e308, 1e308), "MR", "constant-image"),
        (np.linspace(0, 2, 100).reshape(4, 5, 5), "SHAPE", "out-of-range"),
        (np.ones(SHAPE), "SHAPE", "constant-image"),
        (np.ones(SHAPE), "SDF", "constant-image"),
        (np.linspace(0, 1, 100).reshape(4, 5, 5), "CT", "implausible-hu"),
    ],
)
def test_what_has_no_scale_is_refused(voxels, modality, expected):
    with np.errstate(over="ignore"):
        assert code(lambda: to_int16(FILE, voxels, modality)) == expected


def test_an_unknown_modality_is_told_the_list():
    for given, channels in (("XR", 1), ("CT+XR", 2), ("CT+MR", 3), ("", 1)):
        with pytest.raises(DataError) as caught:
            each_modality(given, channels, "case a")
        assert caught.value.code == "modality"
    with pytest.raises(DataError) as caught:
        each_modality("XR", 1, "case a")
    assert all(name in caught.value.fix for name in MODALITIES)
    assert each_modality("MR", 3, "") == ["MR"] * 3
    assert each_modality("CT+MR", 2, "") == ["CT", "MR"]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """CT, and two MR sequences with padding, on one grid."""
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    ct = np.random.default_rng(1).integers(-1000, 1500, SHAPE).astype(np.int16)
    other = np.pad(magnitudes(20, seed=2)[4:, 4:], ((4, 0), (4, 0), (0, 0)))
    paths = []
    for name, voxels in (("ct", ct), ("t1", magnitudes()), ("t2", other)):
        paths.append(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(voxels, affine), paths[-1])
    return paths


def test_scales_survive_resampling_and_the_store(files, tmp_path):
    raw = read_image(files, "CT+MR+MR")
    assert raw.image.shape == (3, *SHAPE)
    assert raw.scales[0] == (1.0, 0.0)
    coarse = prepare(raw, (4.0, 3.0, 3.0))
    stored = VolumeStore(tmp_path / "store", Ledger(), 0).put("ab" * 16, replace(coarse, organs=()))
    assert stored.scales == raw.scales
    image, _ = stored.read((0, 0, 0), stored.shape)
    np.testing.assert_array_equal(image, coarse.image)
    for channel, path in enumerate(files):
        whole = np.asarray(nib.load(path).dataobj, np.float64)
        slope, offset = raw.scales[channel]
        assert np.abs(back(raw.image[channel], (slope, offset)) - whole).max() <= slope / 2 * 1.001
        mean = back(image[channel].astype(np.float64), (slope, offset)).mean()
        assert mean == pytest.approx(whole.mean(), rel=0.02 if channel else 0.3)  # of the file's own unit


def test_one_modality_for_all_and_none_for_ct(files):
    assert read_image(files[:1]).scales == ()
    assert len(read_image(files[1:], "MR").scales) == 2
    assert code(lambda: read_image(files[1:], "MR+MR+MR")) == "modality"


@pytest.mark.skipif(not (SHARED / "ts_mr_img.nii.gz").exists(), reason="the folder of real scans is not here")
def test_a_real_mr_scan_fills_the_window():
    path = SHARED / "ts_mr_img.nii.gz"
    raw = read_image(path, "MR")
    numbers = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
    slope, offset = raw.scales[0]
    assert np.abs(back(raw.image, (slope, offset)) - numbers).max() <= slope / 2 * 1.001
    seen = raw.image[numbers != 0]
    assert np.mean((seen >= -175) & (seen <= 250)) == pytest.approx(0.99, abs=0.002)
