import math
from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR, UNet
from tiny import model as without_levels
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.strategies.cuts import Cut, find_cut, spliced
from lifelong_ct.strategies.frozen_encoder import encoder_parameters

F = 4


def unet() -> nn.Module:
    return UNet(3, 1, F, channels=[4, 8, 16], strides=[2, 2], norm="INSTANCE")


def segresnet() -> nn.Module:
    return SegResNet(3, init_filters=8, in_channels=1, out_channels=F, blocks_down=[1, 2], blocks_up=[1])


def dynunet() -> nn.Module:
    kernels, steps = [[3] * 3] * 3, [1, 2, 2]
    return DynUNet(3, 1, F, kernels, steps, steps[1:], [4, 8, 16], norm_name="instance")


def swinunetr() -> nn.Module:
    return SwinUNETR(in_channels=1, out_channels=F, feature_size=12, use_checkpoint=True)


NETWORKS = [
    (unet, (16, 16, 16), [(4, 8), (8, 4), (16, 4)]),
    (segresnet, (16, 16, 16), [(8, 16), (8, 8)]),
    (dynunet, (16, 16, 16), [(4, 16), (8, 8), (16, 4)]),
    pytest.param(
        swinunetr,
        (64, 32, 32),
        [(96, 4), (192, 2), (12, 64), (12, 32), (24, 16), (48, 8), (192, 2)],
        marks=pytest.mark.slow,
    ),
]
"""With a patch, and channels and depth of what passes between encoder and decoder: skip connections, bottom."""


def passing(model: nn.Module, cut: Cut, x: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """What passes a cut, and the answer."""
    caught: dict[int, Tensor] = {}
    with torch.no_grad(), spliced(model, cut, lambda i, own: caught.setdefault(i, own.clone()).clone()):
        return caught, model(x)


@pytest.mark.parametrize(("make", "patch", "maps"), NETWORKS)
def test_the_decoder_needs_nothing_but_the_bottom_and_the_skip_connections(
    make: Callable[[], nn.Module], patch: tuple[int, ...], maps: list[tuple[int, int]]
) -> None:
    torch.manual_seed(0)
    model = SegmentationModel(make(), F).eval()
    cut = find_cut(model, (1, *patch))
    assert [shape[:2] for shape in cut.shapes] == maps
    assert cut.grid == max((s[1:] for s in cut.shapes), key=math.prod)
    assert cut.below == encoder_parameters(model, torch.zeros(1, 1, *patch))
    one, other = (200 * torch.randn(1, 1, *patch) for _ in range(2))
    inside, answer = passing(model, cut, one)
    assert [tuple(inside[i].shape[1:]) for i in range(len(inside))] == list(cut.shapes)
    assert not torch.allclose(model(other), answer, atol=1e-2)
    with torch.no_grad(), spliced(model, cut, lambda i, own: inside[i].clone()):
        torch.testing.assert_close(model(other), answer, rtol=0, atol=1e-6)


def test_a_batch_of_others_can_be_laid_behind_one_s_own() -> None:
    """As latent replay does; at a deeper map stands already what was made of the maps before it."""
    torch.manual_seed(0)
    model = SegmentationModel(unet(), F).eval()
    cut = find_cut(model, (1, 16, 16, 16))
    one, other = (200 * torch.randn(2, 1, 16, 16, 16) for _ in range(2))
    inside, answer = passing(model, cut, one)
    with torch.no_grad():
        with spliced(model, cut, lambda i, own: torch.cat([own[:2], inside[i]])):
            both = model(other)
        torch.testing.assert_close(both, torch.cat([model(other), answer]), rtol=0, atol=1e-5)


def test_just_before_a_module() -> None:
    model = SegmentationModel(unet(), F)
    cut = find_cut(model, (1, 16, 16, 16), "backbone.model.2")
    assert cut.shapes == ((8, 8, 8, 8),), "the last stage, which is given both in one"
    names = [name for name, _ in model.named_parameters()]
    assert cut.below == {n for n in names if not n.startswith(("backbone.model.2.", "head."))}
    assert find_cut(model, (1, 16, 16, 16), "head").shapes == ((F, 16, 16, 16),)


@pytest.mark.parametrize("before", ["normalise", "backbone", "backbone.model.0"])
def test_voxels_do_not_pass(before: str) -> None:
    with pytest.raises(LifelongCTError, match="voxels pass") as error:
        find_cut(SegmentationModel(unet(), F), (1, 16, 16, 16), before)
    assert error.value.where == "strategy.plugins.cut"


class Beside(nn.Module):
    """Its second layer is given the voxels too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(1, F, 1), nn.Conv3d(F + 1, F, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.cat([self.first(x), x], 1))


def test_a_connection_from_the_voxels_that_passes_beside_is_found() -> None:
    with pytest.raises(LifelongCTError, match=r"before backbone\.second"):
        find_cut(SegmentationModel(Beside(), F), (1, 4, 4, 4), "backbone.second")
    assert find_cut(SegmentationModel(Beside(), F), (1, 4, 4, 4)).shapes == ((F, 4, 4, 4),)


def test_a_name_that_is_none() -> None:
    with pytest.raises(LifelongCTError, match="no module decoder"):
        find_cut(SegmentationModel(unet(), F), (1, 16, 16, 16), "decoder")


def test_a_network_of_one_level_is_cut_before_its_head_or_where_one_says() -> None:
    model = without_levels()
    cut = find_cut(model, (1, 8, 8, 8))
    assert {n for n, _ in model.named_parameters()} - cut.below == {"head.weight", "head.bias"}
    cut = find_cut(model, (1, 8, 8, 8), "backbone.3")
    assert cut.below == {n for n, _ in model.named_parameters() if n.startswith(("backbone.0", "backbone.1"))}


def test_running_statistics_below_the_cut_are_named_and_the_model_is_left_as_it_was() -> None:
    layers = [
        nn.Conv3d(1, F, 1),
        nn.BatchNorm3d(F),
        nn.Conv3d(F, F, 1),
        nn.BatchNorm3d(F),
        nn.ReLU(inplace=True),
    ]
    model = SegmentationModel(nn.Sequential(*layers), F).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cut = find_cut(model, (1, 4, 4, 4), "backbone.2")
    assert cut.norms == ("backbone.1",)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
