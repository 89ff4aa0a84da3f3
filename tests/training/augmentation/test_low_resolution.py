import numpy as np
import torch
from scipy import stats
from torch.nn.functional import interpolate

from lifelong_ct.core.seeding import generator
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.training.augmentation import LowResolution

X = torch.randn(2, 2, 8, 9, 10, generator=torch.Generator().manual_seed(0))
Y = torch.zeros(2, 1, 8, 9, 10, dtype=torch.uint8)


def peer(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    few = interpolate(x[None, None], size, mode="nearest-exact")
    return interpolate(few, x.shape, mode="trilinear")[0, 0]


def test_channels_lose_their_share_as_by_interpolate() -> None:
    share = np.array([[0.5, 0.7], [1.0, 0.93]])
    out, same = LowResolution(1.0, [0.5, 1.0])(X, Y, {"share": share})
    assert same is Y
    for i, c in np.ndindex(2, 2):
        size = tuple(round(n * share[i, c]) for n in (8, 9, 10))
        assert torch.allclose(out[i, c], peer(X[i, c], size), atol=1e-5)


def test_thick_slices_keep_their_number() -> None:
    step = LowResolution(1.0, [0.5, 0.5])
    step.bind(LabelSpace(["liver"]), (5.0, 1.0, 1.0))
    out, _ = step(X, Y, {"share": np.full((2, 2), 0.5)})
    assert torch.allclose(out[0, 0], peer(X[0, 0], (8, 4, 5)), atol=1e-5)


def test_shares_are_uniform() -> None:
    step = LowResolution(0.25, [0.5, 1.0], p_channel=0.5)
    drawn = [step.draw(generator("share", i), (1, 4, 4, 4)) for i in range(3000)]
    share = np.array([d["share"][0] for d in drawn if d is not None])
    assert stats.binomtest(len(share), 3000, 0.125).pvalue > 1e-3
    assert stats.kstest(share, stats.uniform(0.5, 0.5).cdf).pvalue > 1e-3
