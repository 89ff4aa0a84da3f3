import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from torch import nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.inference import PAD_HU, evaluating, inference_bytes, predict_labels


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


# --- against MONAI ----------------------------------------------------------------------------------------


def network(channels: int = 1, width: int = 5) -> nn.Module:
    """Random, and different at every place of a window."""
    torch.manual_seed(0)
    return nn.Sequential(
        Scaled(),
        nn.Conv3d(channels, 8, 3, padding=1),
        nn.InstanceNorm3d(8),
        nn.LeakyReLU(),
        nn.Conv3d(8, width, 3, padding=1),
    ).eval()


class Scaled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 500


def monai(model: nn.Module, image: np.ndarray, roi: tuple, overlap: float) -> torch.Tensor:
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(image)[None].float(), roi, 1, model, overlap, mode="gaussian", cval=PAD_HU
        )
    assert isinstance(logits, torch.Tensor)
    return logits[0]


SHAPES = [
    ((20, 13, 9), (8, 8, 8), 0.25),  # each axis the longest once, odd sizes
    ((9, 20, 13), (8, 8, 8), 0.5),
    ((13, 9, 20), (8, 6, 5), 0.7),
    ((5, 8, 3), (8, 8, 8), 0.25),  # smaller than the window
    ((5, 30, 3), (8, 8, 8), 0.25),
    ((8, 8, 8), (8, 8, 8), 0.25),  # one window
    ((17, 17, 17), (8, 8, 8), 0.0),
    ((14, 6, 11), (6, 6, 6), 0.9),
]


@pytest.mark.parametrize(("shape", "roi", "overlap"), SHAPES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("sw_batch", [1, 3])
def test_labels_are_those_of_monai(
    shape: tuple, roi: tuple, overlap: float, precision: str, sw_batch: int
) -> None:
    model, image = network(), volume(*shape)
    logits = monai(model, image, roi, overlap)
    labels = predict_labels(model, image, roi, overlap, precision=precision, sw_batch=sw_batch)
    other = labels != logits.argmax(0).numpy()
    first, second = logits.topk(2, 0).values.numpy()
    assert not other.any() or (first - second)[other].max() < (1e-5 if precision == "fp32" else 1e-4)
    assert other.mean() <= 0.001


def test_several_channels_of_an_image_are_those_of_monai_too() -> None:
    image = np.concatenate([volume(11, 9, 14), volume(11, 9, 14)[:, ::-1]])
    logits = monai(network(2), image, (8, 8, 8), 0.5)
    assert np.array_equal(predict_labels(network(2), image, (8, 8, 8), 0.5), logits.argmax(0).numpy())


def test_half_precision_keeps_what_is_close_and_cuts_off_what_is_far() -> None:
    """Around 3000 half precision knows every second integer; a channel that was never learnt has -10,000."""

    class Close(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            near = 3000 + x / 1000
            return torch.cat([near * 0 + 3000.1, near, near * 0 - 1e4, near * 0 + 2000], 1)

    image = volume(20, 9, 9)
    labels = predict_labels(Close(), image, (8, 8, 8), 0.5, precision="fp16")
    assert np.array_equal(labels, (image[0] > 100).astype(np.uint8))


def test_a_head_of_sigmoids_gives_the_deepest_organ_above_one_half() -> None:
    """Background, liver, a tumour of it, spleen: logits by hand, one voxel each."""
    logits = torch.tensor(
        [  #  ½, no more  liver  both    tumour alone  liver, spleen  spleen, tumour, which is deeper
            [9.0, 9.0, 9.0, 9.0, 9.0, 9.0],
            [0.0, 1.0, 8.0, -1.0, 2.0, -1.0],
            [-1.0, -1.0, 1.0, 1.0, -1.0, 1.0],
            [-1.0, -1.0, -1.0, -1.0, 1.0, 5.0],
        ]
    )

    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(logits)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.logits[:, x[0, 0].long()][None]

    image = np.arange(6, dtype=np.int16).reshape(1, 6, 1, 1)
    for precision in ("fp32", "fp16"):
        found = predict_labels(Told(), image, (6, 1, 1), depths=[0, 0, 1, 0], precision=precision)
        assert found.ravel().tolist() == [0, 1, 2, 2, 1, 2]


def test_bytes_are_those_of_cells_labels_and_a_window() -> None:
    shape, roi = (128, 40, 12), (8, 8, 8)
    cells = (2 * 40 + 6 * 8) * 12  # by hand in test_windows.py
    window = 8**3 * 4 * (1 + 25)
    assert inference_bytes(shape, roi, 0.25, "fp32", 1, 25) == cells * 25 * 4 + 128 * 40 * 12 + window
    half = cells * 25 * 2 + 128 * 40 * 12 + window + 8**3 * 2 * 25  # the window in either precision
    assert inference_bytes(shape, roi, 0.25, "fp16", 1, 25) == half


def test_an_unknown_precision_is_told() -> None:
    with pytest.raises(LifelongCTError) as error:
        predict_labels(Bands(), volume(4, 4, 4), (4, 4, 4), precision="fp8")
    assert error.value.where == "evaluation.precision"
