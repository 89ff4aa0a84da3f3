import pytest
import torch
from torch import nn

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.strategies.taps import Taps, stage_ends


def network(name: str) -> nn.Module:
    config = compose.plain(compose.compose(compose.Request([f"model={name}"])))
    model: nn.Module = build(config["model"], "model")
    return model.eval()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("unet", [16, 8, 4, 8, 16, 32]),
        ("dynunet", [32, 16, 8, 4, 8, 16, 32]),
        ("segresnet", [32, 16, 8, 4, 8, 16, 32]),
    ],
)
def test_networks_are_tapped_once_per_level_down_and_up(name: str, sizes: list[int]) -> None:
    model = network(name)
    taps = Taps(stage_ends(model, (1, 32, 32, 32)))
    taps.open(model)
    x = torch.zeros(1, 1, 32, 32, 32, dtype=torch.int16)
    with torch.no_grad():
        model(x)
    caught = taps.close()
    assert [activation.shape[2] for activation in caught] == sizes
    assert not any(module._forward_hooks for module in model.modules())
    with torch.no_grad():
        model(x)
    assert taps.close() == []


def test_what_is_caught_is_the_output_of_the_module_with_its_gradient() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv3d(1, 2, 1), nn.AvgPool3d(2), nn.Conv3d(2, 2, 1), nn.InstanceNorm3d(2))
    model = nn.Sequential()
    model.add_module("backbone", backbone)
    model.add_module("head", nn.Conv3d(2, 3, 1))
    with torch.no_grad():
        names = stage_ends(_float(model).eval(), (1, 4, 4, 4))
    assert names == ["backbone.0", "backbone.3"]
    taps = Taps(names)
    taps.open(model)
    x = torch.randn(1, 1, 4, 4, 4)
    model(x)
    first, second = taps.close()
    assert torch.equal(first, backbone[0](x))
    assert torch.equal(second, backbone(x))
    second.square().sum().backward()
    assert backbone[0].weight.grad is not None


def _float(model: nn.Module) -> nn.Module:
    """Takes int16, as our models do."""
    model.register_forward_pre_hook(lambda module, args: (args[0].float(),))
    return model


def test_a_network_without_volumes_is_refused() -> None:
    model = nn.Sequential(nn.Identity())
    model.register_parameter("weight", nn.Parameter(torch.zeros(1)))
    with pytest.raises(LifelongCTError, match=r"strategy\.plugins\.layers"):
        stage_ends(model, (1, 2, 2, 2))
