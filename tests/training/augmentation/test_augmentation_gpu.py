"""The same parameters on CPU and GPU: the same patches; noise equal in distribution."""

import pytest
import torch
from scipy import stats
from test_chain import ALWAYS, batch, chain

from lifelong_ct.data.labels import IGNORE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_everything_but_the_noise_is_the_same() -> None:
    made, (x, y) = chain(*ALWAYS, "trainer.augment.transforms.noise=null"), batch(8, edge=24)
    made.transforms["spatial"].p_rotation = 1.0  # type: ignore[attr-defined]
    here, there = made(x, y, 0), made(x.cuda(), y.cuda(), 0)
    assert there[0].is_cuda
    assert torch.allclose(here[0], there[0].cpu(), atol=0.1)
    assert (
        here[1] != there[1].cpu()
    ).float().mean() < 1e-3  # a voxel in the middle between two may go either way
    assert (here[1] == IGNORE).any()


def test_noise_and_elastic_fields_are_equal_in_distribution() -> None:
    made, (x, y) = chain("trainer.augment.transforms.noise.p=1"), batch(4, edge=24)
    made.transforms = {"noise": made.transforms["noise"]}
    made.window = None
    here, there = ((out[0].cpu() - x) for out in (made(x, y, 0), made(x.cuda(), y.cuda(), 0)))
    for a, b in zip(here, there):
        assert stats.ks_2samp(a.flatten().numpy(), b.flatten().numpy()).pvalue > 1e-3
