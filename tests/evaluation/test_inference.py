import numpy as np
import pytest
import torch
from torch import nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.inference import PAD_HU, evaluating, predict_labels


class Bands(nn.Module):
    """Voxel-wise: channel k where HU lies nearest to 100 k."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.centres = nn.Parameter(100.0 * torch.arange(channels))
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach().clone())
        return -(x - self.centres.view(1, -1, 1, 1, 1)).abs()


def volume(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-200, 500, (1, *shape)).astype(np.int16)


def direct(model: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(image)[None].float())[0].argmax(0).numpy()


def test_a_volume_of_one_window_equals_the_direct_forward_pass() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.Conv3d(4, 3, 1))
    image = volume(8, 10, 12)
    labels = predict_labels(model, image, (8, 10, 12))
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, direct(model, image))


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.7])
@pytest.mark.parametrize("sw_batch", [1, 3])
def test_windows_of_a_voxel_wise_model_add_up_to_the_whole(overlap: float, sw_batch: int) -> None:
    model, image = Bands(), volume(13, 9, 20)
    labels = predict_labels(model, image, (8, 8, 8), overlap, sw_batch=sw_batch)
    assert np.array_equal(labels, direct(Bands(), image))
    assert all(x.shape[2:] == (8, 8, 8) and len(x) <= sw_batch for x in model.seen)


def test_a_volume_smaller_than_the_window_is_padded_with_air_and_comes_back_in_its_shape() -> None:
    model, image = Bands(), volume(5, 8, 3)
    labels = predict_labels(model, image, (8, 8, 8))
    assert labels.shape == (5, 8, 3)
    assert np.array_equal(labels, direct(Bands(), image))
    (window,) = model.seen
    assert window.shape == (1, 1, 8, 8, 8)
    assert int((window == PAD_HU).sum()) == 8**3 - 5 * 8 * 3


def test_bf16_gives_nearly_the_same_labels() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 3, 1))
    image = volume(8, 8, 8)
    full, half = (predict_labels(model, image, (8, 8, 8), amp_dtype=t) for t in (None, torch.bfloat16))
    assert (full == half).mean() > 0.95


def test_every_module_has_its_own_mode_again() -> None:
    model = nn.Sequential(nn.BatchNorm3d(1), nn.Dropout(), nn.Identity())
    model.train()
    model[0].eval()
    statistics = model[0].running_mean.clone()
    predict_labels(nn.Sequential(model, nn.Conv3d(1, 2, 1)), volume(4, 4, 4), (4, 4, 4))
    assert [m.training for m in model] == [False, True, True]
    assert torch.equal(model[0].running_mean, statistics)


def test_an_error_brings_the_modes_back_too() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Identity()).train()
    model[1].eval()
    inside: list[bool] = []

    def fail() -> None:
        with evaluating(model):
            inside.extend([torch.is_grad_enabled(), *(m.training for m in model.modules())])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any(inside)
    assert [m.training for m in model] == [True, False]


@pytest.mark.parametrize(
    ("shape", "roi", "overlap", "where"),
    [
        ((4, 4, 4), (4, 4, 4), 0.25, "predict_labels"),
        ((1, 4, 4, 4), (4, 4), 0.25, "evaluation.roi"),
        ((1, 4, 4, 4), (4, 0, 4), 0.25, "evaluation.roi"),
        ((1, 4, 4, 4), (4, 4, 4), 1.0, "evaluation.overlap"),
    ],
)
def test_wrong_input_is_told(shape: tuple, roi: tuple, overlap: float, where: str) -> None:
    with pytest.raises(LifelongCTError) as error:
        predict_labels(Bands(), np.zeros(shape, np.int16), roi, overlap)
    assert error.value.where == where
