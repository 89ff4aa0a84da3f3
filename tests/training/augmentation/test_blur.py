import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator
from lifelong_ct.training.augmentation import Blur


def test_channels_are_blurred_as_scipy_does_each_axis_by_its_own_sigma() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(0, 100, (2, 2, 8, 9, 10))).float()
    sigma = rng.uniform(0.5, 1.0, (2, 2, 3))
    sigma[1, 0] = 0
    y = torch.zeros(2, 1, 8, 9, 10, dtype=torch.uint8)
    out, same = Blur(1.0, [0.5, 1.0])(x, y, {"sigma": sigma})
    assert same is y
    for i, c in np.ndindex(2, 2):
        peer = ndimage.gaussian_filter(x[i, c].double().numpy(), sigma[i, c], mode="mirror", truncate=3.0)
        assert np.allclose(out[i, c].numpy(), peer, atol=1e-3)
    assert torch.equal(out[1, 0], x[1, 0])


def test_sigmas_are_uniform_for_the_channels_that_are_chosen() -> None:
    step = Blur(0.2, [0.5, 1.0], p_channel=0.5)
    drawn = [step.draw(generator("blur", i), (2, 4, 4, 4)) for i in range(3000)]
    sigma = np.stack([d["sigma"] for d in drawn if d is not None])
    assert stats.binomtest(len(sigma), 3000, 0.2 * (1 - 0.5**2)).pvalue > 1e-3
    chosen = sigma[sigma[..., 0] > 0]
    assert stats.binomtest(len(chosen), 6000, 0.1).pvalue > 1e-3
    assert stats.kstest(chosen.ravel(), stats.uniform(0.5, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "wrong", [{"p": 1.1}, {"p": True}, {"sigma": [1]}, {"sigma": [-1, 1]}, {"p_channel": -1}]
)
def test_senseless_arguments_are_refused(wrong: dict) -> None:
    with pytest.raises(LifelongCTError) as error:
        Blur(**{"p": 0.5, "sigma": [0.5, 1], **wrong})
    assert error.value.where == "trainer.augment"
