from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR, UNet
from tiny import model as without_levels
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.strategies.cuts import Cut, find_cut, spliced

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


LAST_STAGE = [
    (unet, (16, 16, 16), "backbone.model.2", [8], ["backbone.model.2.conv"]),
    (segresnet, (16, 16, 16), "backbone.up_layers.0", [8], ["backbone.up_layers.0", "backbone.conv_final"]),
    (
        dynunet,
        (16, 16, 16),
        "backbone.upsamples.1",
        [8, 4],
        ["backbone.upsamples.1", "backbone.output_block"],
    ),
    pytest.param(
        swinunetr,
        (64, 32, 32),
        "backbone.decoder1",
        [12, 12],
        ["backbone.decoder1", "backbone.out"],
        marks=pytest.mark.slow,
    ),
]


def passing(model: nn.Module, cut: Cut, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """What passes a cut, and the answer."""
    caught: list[tuple[Tensor, ...]] = []
    with torch.no_grad(), spliced(model, cut, caught.append):
        answer = model(x)
    return tuple(each.clone() for each in caught[0]), answer


@pytest.mark.parametrize(("make", "patch", "name", "channels", "above"), LAST_STAGE)
def test_the_rest_of_a_network_needs_nothing_but_what_passes_the_last_stage(
    make: Callable[[], nn.Module], patch: tuple[int, ...], name: str, channels: list[int], above: list[str]
) -> None:
    torch.manual_seed(0)
    model = SegmentationModel(make(), F).eval()
    cut = find_cut(model, (1, *patch))
    assert cut.name == name
    assert [shape[0] for shape in cut.shapes] == channels
    names = [n for n, _ in model.named_parameters()]
    learning = tuple(f"{each}." for each in [*above, "head"])
    assert cut.below == {n for n in names if not n.startswith(learning)}
    one, other = (200 * torch.randn(1, 1, *patch) for _ in range(2))
    inside, answer = passing(model, cut, one)
    assert [tuple(each.shape[1:]) for each in inside] == list(cut.shapes)
    assert not torch.equal(model(other), answer)
    with spliced(model, cut, lambda own: inside):
        assert torch.equal(model(other), answer)


def test_a_skip_connection_that_passes_beside_is_found() -> None:
    model = SegmentationModel(unet(), F)
    with pytest.raises(LifelongCTError, match="passes beside") as error:
        find_cut(model, (1, 16, 16, 16), "backbone.model.1.submodule.2")
    assert error.value.where == "strategy.plugins.cut"
    assert find_cut(model, (1, 16, 16, 16), "head").shapes == ((F, 16, 16, 16),)


def test_a_name_that_is_none() -> None:
    with pytest.raises(LifelongCTError, match="no module decoder"):
        find_cut(SegmentationModel(unet(), F), (1, 16, 16, 16), "decoder")


def test_a_network_of_one_level_is_cut_before_its_head_or_where_one_says() -> None:
    model = without_levels()
    assert find_cut(model, (1, 8, 8, 8)).name == "head"
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
