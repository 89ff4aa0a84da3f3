"""The certainty of a prediction, by hand and against voxel-wise sums over the whole volume."""

import numpy as np
import pytest
import torch
from torch import nn

from lifelong_ct.evaluation.certainty import Certainty
from lifelong_ct.evaluation.inference import predict_labels


def test_by_hand() -> None:
    """Four voxels, background and two organs; the second organ is nowhere the likeliest."""
    p = torch.tensor([[0.7, 0.1, 0.3, 0.9], [0.2, 0.8, 0.6, 0.05], [0.1, 0.1, 0.1, 0.05]])
    sure = Certainty()
    sure.add(p.log()[:, :2], torch.tensor([0, 1]))
    sure.add(p.log()[:, 2:], torch.tensor([1, 0]))
    (organ, nowhere) = sure.of_channels()
    assert organ == pytest.approx(2 * (0.8 + 0.6) / (2 + 0.2 + 0.8 + 0.6 + 0.05))
    assert nowhere is None
    assert sure.of_scan() == organ


def test_a_sure_model_has_1_and_nothing_found_0() -> None:
    sure = Certainty()
    sure.add(torch.tensor([[0.0, 200.0], [200.0, 0.0]]), torch.tensor([1, 0]))
    assert sure.of_channels() == [1.0]
    nothing = Certainty()
    nothing.add(torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([0, 0]))
    assert nothing.of_channels() == [None]
    assert nothing.of_scan() == 0.0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_it_is_that_of_the_blended_softmax(precision: str, overlap: float) -> None:
    """Of a voxel-wise model the blended logits are the model's own, wherever windows lie."""

    class Bands(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centres = nn.Parameter(torch.tensor([-100.0, 0.0, 100.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -(x - self.centres[:, None, None, None]).abs() / 40

    image = np.random.default_rng(0).integers(-200, 200, (1, 11, 9, 5)).astype(np.int16)
    sure = Certainty()
    labels = predict_labels(Bands(), image, (4, 4, 4), overlap, precision=precision, certainty=sure)
    with torch.no_grad():
        p = Bands()(torch.from_numpy(image)[None].float())[0].softmax(0).numpy()
    for channel, found in enumerate(sure.of_channels(), start=1):
        mask = labels == channel
        wanted = 2 * p[channel][mask].sum() / (mask.sum() + p[channel].sum())
        assert found == pytest.approx(wanted, abs=1e-4 if precision == "fp32" else 3e-3)
