"""Mirrored windows, against a model whose right answer is known: it tells sides by where a voxel lies."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.inference import predict_labels
from lifelong_ct.evaluation.mirroring import Mirroring, swapped

KIDNEYS = ["liver", "kidney_right", "kidney_left"]


class Sides(nn.Module):
    """Bright tissue is a kidney, of the side on which it lies; dim tissue is liver. The first axis runs to the right."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.clone())
        bright, dim = x > 150, (x > 50) & (x <= 150)
        right = torch.arange(x.shape[2])[:, None, None] >= x.shape[2] / 2
        return self.scale * torch.cat([~bright & ~dim, dim, bright & right, bright & ~right], 1).float()


def scene() -> tuple[np.ndarray, np.ndarray]:
    image, wanted = np.full((1, 8, 6, 4), -50, np.int16), np.zeros((8, 6, 4), np.uint8)
    for box, hu, channel in [
        (np.s_[5:8, 1:3, 1:3], 200, 2),
        (np.s_[0:3, 3:6, 0:2], 200, 3),
        (np.s_[6:8, 4:6, 2:4], 100, 1),
    ]:
        image[0][box], wanted[box] = hu, channel
    return image, wanted


@pytest.mark.parametrize("axes", [ax for n in range(1, 4) for ax in itertools.combinations(range(3), n)])
def test_mirrored_sides_change_places(axes: tuple[int, ...]) -> None:
    image, wanted = scene()
    model = Sides()
    found = predict_labels(model, image, (8, 6, 4), mirroring=Mirroring(axes, KIDNEYS))
    assert np.array_equal(found, wanted)
    assert len(model.seen) == 2 ** len(axes)
    flips = {tuple(sorted(c)) for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)}
    shown = [
        tuple(f for f in flips if torch.equal(x[0, 0], torch.tensor(image[0]).float().flip(f)))
        for x in model.seen
    ]
    assert sorted(f for each in shown for f in each) == sorted(flips)


def test_without_the_swap_the_sides_would_be_undecided() -> None:
    mirroring = Mirroring([0], KIDNEYS)
    x = torch.from_numpy(scene()[0])[None].float()
    assert torch.equal(mirroring(Sides(), x), Sides()(x))
    mirroring.swap = [0, 1, 2, 3]
    at = mirroring(Sides(), x)[0, :, 6, 1, 1]
    assert at.tolist() == [0, 0, 0.5, 0.5]


def test_logits_are_averaged_as_by_hand() -> None:
    class Ramp(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x * 0, torch.arange(4.0)[:, None, None] + x], 1)

    x = torch.zeros(1, 1, 4, 2, 2)
    found = Mirroring([0], ["liver"])(Ramp(), x)[0, 1, :, 0, 0]
    assert found.tolist() == [1.5] * 4  # (0 + 3) / 2, (1 + 2) / 2, …
    assert Mirroring([1, 2])(Ramp(), x)[0, 1, :, 0, 0].tolist() == [0, 1, 2, 3]


def test_channels_of_organs_with_and_without_a_side() -> None:
    assert swapped([]) == [0]
    assert swapped(["kidney_left", "liver", "kidney_right", "lung_right", "lung_left"]) == [0, 3, 2, 1, 5, 4]


@pytest.mark.parametrize(
    ("organs", "words"),
    [
        (["liver", "kidney_left"], "its other side, kidney_right, has no channel"),
        (["lung_middle_lobe_right"], "the body has no other one"),
        (["heart_atrium_left", "heart_atrium_right"], "the body has no other one"),
    ],
)
def test_an_organ_without_its_other_side_is_refused(organs: list[str], words: str) -> None:
    with pytest.raises(LifelongCTError, match=words) as error:
        Mirroring([0, 1], organs)
    assert error.value.where == "evaluation.mirror"
    Mirroring([1, 2], organs)


@pytest.mark.parametrize("axes", [[3], [-1], [0, 0], ["0"], "01", [True], 1])
def test_what_is_no_list_of_axes_is_refused(axes: object) -> None:
    with pytest.raises(LifelongCTError) as error:
        Mirroring(axes)  # type: ignore[arg-type]
    assert error.value.where == "evaluation.mirror"
