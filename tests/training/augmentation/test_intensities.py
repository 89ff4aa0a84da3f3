"""Brightness, contrast and gamma, against their definitions, MONAI, and nnU-Net's own where it is installed."""

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast
from scipy import stats

from lifelong_ct.core.seeding import generator
from lifelong_ct.training.augmentation import Brightness, Contrast, Gamma, Transform
from lifelong_ct.training.augmentation.transform import around_one

X = torch.randn(2, 2, 6, 7, 8, generator=torch.Generator().manual_seed(0)) * 90 + 30
Y = torch.zeros(2, 1, 6, 7, 8, dtype=torch.uint8)
FACTORS = np.array([[0.75, 1.2], [1.0, 0.9]])


def test_brightness_scales_around_its_level() -> None:
    out, same = Brightness(1.0, [0.75, 1.25], level=37.5)(X, Y, {"factor": FACTORS})
    assert same is Y
    for i, c in np.ndindex(2, 2):
        assert torch.allclose(out[i, c] - 37.5, FACTORS[i, c] * (X[i, c] - 37.5), atol=1e-4)


def test_contrast_scales_around_the_mean_of_the_channel_within_its_range() -> None:
    out, _ = Contrast(1.0, [0.75, 1.25])(X, Y, {"factor": FACTORS})
    for i, c in np.ndindex(2, 2):
        old = X[i, c].double().numpy()
        wanted = np.clip(old.mean() + FACTORS[i, c] * (old - old.mean()), old.min(), old.max())
        assert np.allclose(out[i, c].numpy(), wanted, atol=1e-3)


@pytest.mark.parametrize("invert", [False, True])
def test_gamma_is_monais_with_its_statistics_kept(invert: bool) -> None:
    out, _ = Gamma(1.0, [0.7, 1.5], invert)(X, Y, {"gamma": FACTORS})
    for i, c in np.ndindex(2, 2):
        peer = AdjustContrast(float(FACTORS[i, c]), invert_image=invert, retain_stats=True)(X[i, c][None])
        assert np.allclose(out[i, c].numpy(), np.asarray(peer[0]), atol=0.01)
        assert out[i, c].mean() == pytest.approx(float(X[i, c].mean()), abs=1e-3)
        assert out[i, c].std() == pytest.approx(float(X[i, c].std()), rel=1e-4)


@pytest.mark.parametrize("step", [Contrast(1.0, [0.5, 2]), Gamma(1.0, [0.5, 2]), Gamma(1.0, [0.5, 2], True)])
def test_a_constant_patch_keeps_its_hu(step: Transform) -> None:
    key = "factor" if isinstance(step, Contrast) else "gamma"
    flat = torch.full_like(X, -175.0)
    assert torch.allclose(step(flat, Y, {key: FACTORS})[0], flat)


@pytest.mark.parametrize("invert", [0.0, 1.0])
def test_the_patches_of_nnunet_are_met(invert: float) -> None:
    gamma = pytest.importorskip("batchgeneratorsv2.transforms.intensity.gamma").GammaTransform
    contrast = pytest.importorskip("batchgeneratorsv2.transforms.intensity.contrast").ContrastTransform
    brightness = pytest.importorskip("batchgeneratorsv2.transforms.intensity.brightness")
    peers = {
        "gamma": (gamma(0.8, invert, False, 1, 1), Gamma(1, [0.7, 1.5], bool(invert))),
        "contrast": (contrast(0.8, True, False, 1), Contrast(1, [0.7, 1.5])),
        "brightness": (
            brightness.MultiplicativeBrightnessTransform(0.8, False, 1),
            Brightness(1, [0.7, 1.5], level=0),
        ),
    }
    for name, (peer, step) in peers.items():
        key = "gamma" if name == "gamma" else "factor"
        found = step(X, Y, {key: np.full((2, 2), 0.8)})[0]
        for i in range(2):
            assert torch.allclose(found[i], peer(image=X[i].clone())["image"], atol=0.01), name


def test_half_of_the_factors_are_below_one() -> None:
    factors = around_one(generator("factors"), (0.7, 1.5), 4000)
    below, above = factors[factors < 1], factors[factors >= 1]
    assert stats.binomtest(len(below), 4000, 0.5).pvalue > 1e-3
    assert stats.kstest(below, stats.uniform(0.7, 0.3).cdf).pvalue > 1e-3
    assert stats.kstest(above, stats.uniform(1.0, 0.5).cdf).pvalue > 1e-3
    assert around_one(generator("factors"), (1.2, 1.3), 50).min() >= 1.2


@pytest.mark.parametrize(
    ("step", "p"), [(Brightness(0.15, [0.75, 1.25]), 0.15), (Gamma(0.3, [0.7, 1.5]), 0.3)]
)
def test_as_many_samples_are_changed_as_asked_for(step: Transform, p: float) -> None:
    changed = sum(step.draw(generator("p", i), (1, 4, 4, 4)) is not None for i in range(3000))
    assert stats.binomtest(changed, 3000, p).pvalue > 1e-3
