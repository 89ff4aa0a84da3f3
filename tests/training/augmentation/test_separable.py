"""Blur and resampling as matrices, against SciPy and PyTorch."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

from lifelong_ct.training.augmentation.separable import coarse, gaussian, mapped


@pytest.mark.parametrize(("n", "sigma"), [(12, 0.5), (12, 1.0), (5, 3.3), (1, 2.0), (7, 0.0)])
def test_a_gaussian_is_scipys_mirrored_at_the_ends(n: int, sigma: float) -> None:
    signal = np.random.default_rng(0).normal(size=n)
    peer = ndimage.gaussian_filter1d(signal, sigma, mode="mirror", truncate=3.0) if sigma else signal
    assert np.allclose(gaussian(n, sigma) @ signal, peer)


@pytest.mark.parametrize("share", [0.5, 0.61, 0.999, 1.0, 0.01])
@pytest.mark.parametrize("n", [1, 10, 17])
def test_fewer_voxels_and_back_is_pytorchs(n: int, share: float) -> None:
    signal = torch.randn(1, 1, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    peer = interpolate(interpolate(signal, max(1, round(n * share)), mode="nearest-exact"), n, mode="linear")
    assert np.allclose(coarse(n, share) @ signal[0, 0].numpy(), peer[0, 0].numpy(), atol=1e-6)


def test_each_sample_and_channel_has_matrices_of_its_own() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(2, 3, 4, 5, 6)))
    matrices = [rng.normal(size=(2, 3, n, n)) for n in (4, 5, 6)]
    wanted = np.einsum("bcdi,bchj,bcwk,bcijk->bcdhw", *matrices, x.numpy())
    assert np.allclose(mapped(x, matrices).numpy(), wanted)
