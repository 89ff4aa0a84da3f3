"""Gradients of parts in every network of `conf/model`, also where it recomputes its blocks in the backward pass."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.models.adapters import AdaptedModel, adaptable
from lifelong_ct.models.decoders import DecodersModel
from lifelong_ct.models.parts import Learnt, PartedModel
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.models.swapped import SwappedModel

SMALL = {
    "unet": ["model.backbone.channels=[4,4,4,4]"],
    "dynunet": ["model.backbone.filters=[4,4,4,4]"],
    "segresnet": ["model.backbone.init_filters=8"],
    "swinunetr": ["model.backbone.feature_size=12"],
}
KNOWS = (0, 1, 2)


SLOW = [pytest.param(name, marks=pytest.mark.slow) if name == "swinunetr" else name for name in SMALL]


@pytest.fixture(params=SLOW)
def network(request: pytest.FixtureRequest) -> SegmentationModel:
    config = compose.plain(
        compose.compose(compose.Request([f"model={request.param}", *SMALL[request.param]]))
    )
    torch.manual_seed(0)
    made: SegmentationModel = build(config["model"], "model").double()
    return made


def patch(network: nn.Module) -> Tensor:
    depth = 64 if recomputing(network) else 32  # the coarsest grid needs two voxels
    return torch.randint(-300, 300, (1, 1, depth, 32, 32)).double()


def recomputing(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if getattr(module, "use_checkpoint", False)]


def plainly(network: nn.Module) -> nn.Module:
    """A copy that recomputes nothing."""
    alone = copy.deepcopy(network)
    for module in recomputing(alone):
        module.use_checkpoint = False
    return alone


def gradients(parameters: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {name: p.grad for name, p in parameters if p.grad is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert len(found) > 4
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9 * float(value.abs().max()))


@pytest.mark.parametrize("kind", ["independent", "continual_segment"])
def test_a_part_learns_what_the_plain_network_learns(network: SegmentationModel, kind: str) -> None:
    x, alone = patch(network), plainly(network)
    alone.grow(len(KNOWS))
    alone(x).square().mean().backward()
    expected = gradients(alone.named_parameters())
    own = [n for n, _ in network.named_parameters() if kind == "independent" or not n.endswith("conv.weight")]
    made = SwappedModel(network, own) if kind == "independent" else DecodersModel(network, own, {})
    made.grow(len(KNOWS))
    stored = len(made.state_dict())
    torch.manual_seed(1)
    made.begin(Learnt("a", KNOWS), lambda: copy.deepcopy(alone))
    made.train()(x).square().mean().backward()
    assert len(made.state_dict()) == stored, "what the network computes with is not stored twice"
    found = gradients(made.newest().named_parameters()) | gradients(made.network.named_parameters())
    assert_same({name.replace("/", "."): value for name, value in found.items()}, expected)
    made.freeze()
    with torch.no_grad():
        torch.testing.assert_close(made.eval()(x), alone.eval()(x))


def test_adapters_learn_what_the_sum_of_kernels_learns(network: SegmentationModel) -> None:
    x, alone = patch(network), plainly(network)
    made = AdaptedModel(network, rank=1, alpha=1.0)
    made.grow(len(KNOWS))
    for name in "ab":
        made.freeze()
        made.begin(Learnt(name, KNOWS), lambda: network)
    own = made.double().parts[1]
    for layer in own.layers:
        nn.init.normal_(layer.up.weight, std=0.1)
    peer = copy.deepcopy(own)
    made.train()(x).square().mean().backward()
    layers = {f"backbone.{name}.weight": layer for name, layer in adaptable(alone.backbone).items()}
    kernels = [layer.weight + a.kernel() for layer, a in zip(layers.values(), peer.layers, strict=True)]
    given = dict(zip(layers, kernels, strict=True)) | {
        "head.weight": peer.head.weight,
        "head.bias": peer.head.bias,
    }
    functional_call(alone, given, (x,)).square().mean().backward()
    assert_same(gradients(own.named_parameters()), gradients(peer.named_parameters()))


class Recomputing(nn.Module):
    """Two layers that run again in the backward pass."""

    use_checkpoint = True

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv3d(1, 4, 1), nn.Conv3d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(lambda given: self.two(self.one(given).sigmoid()), x, use_reentrant=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["adapted", "swapped"])
def test_an_answer_in_between_does_not_disturb_the_backward_pass(kind: str) -> None:
    """As of a score or a router while a step is under way."""
    torch.manual_seed(0)
    network = SegmentationModel(Recomputing(), 4)
    x = torch.randint(-300, 300, (1, 1, 4, 4, 4), dtype=torch.int16)
    made: PartedModel = AdaptedModel(network, 1, 1.0) if kind == "adapted" else SwappedModel(network)
    for name in "ab":
        made.freeze()
        made.grow(3)
        torch.manual_seed(2)
        made.begin(Learnt(name, KNOWS), lambda: SegmentationModel(Recomputing(), 4))
    found = []
    for between in (False, True):
        made.zero_grad()
        logits = made.train()(x)
        if between:
            with torch.no_grad():
                made.answer(0, x)
                made.watch([x])
        logits.square().mean().backward()
        found.append({n: g.clone() for n, g in gradients(made.named_parameters()).items()})
        assert all(name.startswith("parts.1.") for name in found[-1])
    assert_same(*found)


def test_a_copy_answers_with_its_own_adapters() -> None:
    torch.manual_seed(0)
    made = AdaptedModel(SegmentationModel(nn.Conv3d(1, 4, 1), 4), 1, 1.0)
    for name in "ab":
        made.grow(2)
        made.begin(Learnt(name, (0, 1)), lambda: made.network)
    x = torch.randint(-300, 300, (1, 1, 4, 4, 4), dtype=torch.int16)
    other = copy.deepcopy(made)
    before = made(x)
    nn.init.ones_(other.parts[1].layers[0].up.weight)
    assert not torch.equal(other(x), before)
    assert torch.equal(made(x), before)
