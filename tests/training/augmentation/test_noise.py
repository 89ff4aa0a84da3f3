import numpy as np
import torch
from scipy import stats

from lifelong_ct.core.seeding import generator
from lifelong_ct.training.augmentation import Noise

Y = torch.zeros(2, 1, 12, 12, 12, dtype=torch.uint8)


def test_noise_is_normal_with_the_deviation_of_its_sample_and_independent_in_each_channel() -> None:
    x = torch.full((2, 2, 12, 12, 12), 50.0)
    given = {"std": np.array([4.0, 11.0]), "seed": np.array([1, 2])}
    out, same = Noise(1.0, [0, 12])(x, Y, given)
    assert same is Y
    noise = (out - x).numpy()
    for i, std in enumerate((4.0, 11.0)):
        assert stats.kstest(noise[i].ravel(), stats.norm(0, std).cdf).pvalue > 1e-3
    together = np.corrcoef(noise.reshape(4, -1))
    assert np.abs(together - np.eye(4)).max() < 4 / 12**1.5


def test_each_sample_has_the_noise_of_its_seed() -> None:
    x, step = torch.zeros(2, 1, 6, 6, 6), Noise(1.0, [0, 12])
    both = step(x, Y, {"std": np.array([4.0, 11.0]), "seed": np.array([1, 2])})[0]
    alone = step(x[1:], Y[1:], {"std": np.array([11.0]), "seed": np.array([2])})[0]
    assert torch.equal(both[1:], alone)


def test_deviations_are_uniform() -> None:
    step = Noise(0.1, [0, 12])
    drawn = [step.draw(generator("noise", i), (1, 4, 4, 4)) for i in range(5000)]
    std = [float(d["std"]) for d in drawn if d is not None]
    assert stats.binomtest(len(std), 5000, 0.1).pvalue > 1e-3
    assert stats.kstest(std, stats.uniform(0, 12).cdf).pvalue > 1e-3
