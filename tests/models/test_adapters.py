"""Adapters against the kernel that they stand for."""

from typing import Any

import pytest
import torch
from torch import nn

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.models.adapters import AdaptedModel, Adapter, adaptable
from lifelong_ct.models.parts import Learnt
from lifelong_ct.models.segmentation import SegmentationModel

LAYERS = [
    lambda: nn.Conv3d(3, 5, 3, padding=1),
    lambda: nn.Conv3d(3, 5, (3, 1, 2), stride=(2, 1, 2), dilation=(1, 1, 2), bias=False),
    lambda: nn.ConvTranspose3d(3, 5, 3, stride=2, padding=1, output_padding=1),
    lambda: nn.Linear(3, 5),
]


def drawn(layer: nn.Module, rank: int = 2, alpha: float = 3.0) -> Adapter:
    adapter = Adapter(layer, rank, alpha)
    with torch.no_grad():
        adapter.up.weight.normal_()
    return adapter


@pytest.mark.parametrize("make", LAYERS)
def test_layer_and_adapter_are_the_layer_with_the_sum_of_the_kernels(make: Any) -> None:
    torch.manual_seed(0)
    layer = make()
    adapter = drawn(layer)
    x = torch.randn(2, 3) if isinstance(layer, nn.Linear) else torch.randn(2, 3, 7, 6, 5)
    together = layer(x) + adapter(x)
    with torch.no_grad():
        layer.weight += adapter.kernel()
    torch.testing.assert_close(layer(x), together, rtol=1e-5, atol=1e-5)


def test_a_kernel_of_one_voxel_by_hand() -> None:
    """A = (1, 2), B = (3, 4)ᵀ, α / r = 0.5: ΔW = ((1.5, 3), (2, 4))."""
    adapter = Adapter(nn.Conv3d(2, 2, 1), rank=1, alpha=0.5)
    with torch.no_grad():
        adapter.down.weight.copy_(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1))
        adapter.up.weight.copy_(torch.tensor([3.0, 4.0]).view(2, 1, 1, 1, 1))
    assert adapter.kernel().flatten().tolist() == [1.5, 3.0, 2.0, 4.0]
    x = torch.tensor([10.0, 1.0]).view(1, 2, 1, 1, 1)
    assert adapter(x).flatten().tolist() == [18.0, 24.0]


@pytest.mark.parametrize("make", LAYERS)
def test_the_kernel_has_the_rank(make: Any) -> None:
    kernel = drawn(make(), rank=2).kernel()
    rows = kernel.transpose(0, 1) if isinstance(make(), nn.ConvTranspose3d) else kernel
    assert torch.linalg.matrix_rank(rows.flatten(1)) == 2


@pytest.mark.parametrize(
    "name", ["unet", "dynunet", "segresnet", pytest.param("swinunetr", marks=pytest.mark.slow)]
)
def test_a_fresh_adapter_changes_no_bit_of_any_network(name: str) -> None:
    config = compose.plain(compose.compose(compose.Request([f"model={name}"])))
    made = AdaptedModel(build(config["model"], "model"), rank=2, alpha=2.0)
    made.grow(3)
    made.begin(Learnt("a", (0, 1, 2)), lambda: made.network)
    edge = 64 if name == "swinunetr" else 32
    x = torch.randint(-300, 300, (1, 1, edge, edge, edge), dtype=torch.int16)
    with torch.no_grad():
        before = made.eval()(x)
        made.begin(Learnt("b", (0, 1, 2)), lambda: made.network)
        with made.using((1, 0)):
            assert torch.equal(made.eval()(x), before)
        for layer in made.parts[1].layers:
            layer.up.weight.fill_(0.01)
        with made.using((1, 0)):
            assert not torch.equal(made(x), before)
        with made.using((0, 1)):
            assert torch.equal(made(x), before)


def test_grouped_convolutions_have_none_and_a_network_without_layers_is_refused() -> None:
    network = nn.Sequential(nn.Conv3d(2, 2, 1, groups=2), nn.Conv3d(2, 2, 1))
    assert list(adaptable(network)) == ["1"]
    with pytest.raises(LifelongCTError, match="no layer to adapt"):
        AdaptedModel(SegmentationModel(nn.Conv3d(2, 2, 1, groups=2), 2), 1, 1.0)
