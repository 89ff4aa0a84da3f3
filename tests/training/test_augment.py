import pytest
import torch

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.training.augment import Augment


def batch(size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(-500, 500, (size, 1, 4, 5, 6), generator=rng, dtype=torch.int16)
    return x, torch.randint(0, 3, x.shape, generator=rng, dtype=torch.uint8)


def test_nothing_asked_nothing_changed() -> None:
    x, y = batch()
    out, same = Augment()(x, y, 0)
    assert out.dtype == torch.float32
    assert torch.equal(out, x.float())
    assert same is y


def test_it_depends_on_the_seed_only() -> None:
    augment = Augment(noise=5.0, shift=20.0, scale=0.1, mirror=[1, 2])
    first = augment(*batch(), 3)
    torch.rand(9)
    second = augment(*batch(), 3)
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert not torch.equal(first[0], augment(*batch(), 4)[0])


def test_brightness_and_contrast_are_one_number_per_sample_within_bounds() -> None:
    x, y = batch(64)
    shifted = Augment(shift=20.0)(x, y, 0)[0] - x
    assert shifted.flatten(1).std(1).max() < 1e-3
    assert 15 < shifted.abs().max() <= 20.001
    scaled = Augment(scale=0.1)(x + 1000, y, 0)[0] / (x + 1000)
    assert scaled.flatten(1).std(1).max() < 1e-5
    assert 0.9 <= scaled.min() < 0.93
    assert 1.07 < scaled.max() <= 1.1


def test_noise_has_at_most_the_standard_deviation_asked_for() -> None:
    x = torch.zeros(200, 1, 8, 8, 8, dtype=torch.int16)
    deviation = Augment(noise=10.0)(x, x.to(torch.uint8), 0)[0].flatten(1).std(1)
    assert deviation.max() < 10.7
    assert deviation.mean() == pytest.approx(5.0, abs=0.6)  # uniform between 0 and 10


@pytest.mark.parametrize("axis", [1, 2])
def test_mirroring_takes_voxels_and_labels_along_for_about_half_of_the_samples(axis: int) -> None:
    x, y = batch(200)
    out, codes = Augment(mirror=[axis])(x, y, 0)
    flipped = [torch.equal(out[i], x[i].float().flip(1 + axis)) for i in range(200)]
    for i, turned in enumerate(flipped):
        assert torch.equal(codes[i], y[i].flip(1 + axis) if turned else y[i])
        assert turned or torch.equal(out[i], x[i].float())
    assert 70 < sum(flipped) < 130


@pytest.mark.parametrize("wrong", [{"mirror": [0]}, {"noise": -1.0}, {"scale": -0.1}, {"mirror": [3]}])
def test_wrong_strengths_and_the_lateral_axis_are_refused(wrong: dict) -> None:
    with pytest.raises(LifelongCTError) as error:
        Augment(**wrong)
    assert error.value.where == "trainer.augment"
