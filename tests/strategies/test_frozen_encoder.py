import pytest
import torch
from tiny import World
from torch import nn

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.strategies.frozen_encoder import FrozenEncoder, encoder_parameters

# What the networks call their way down and their bottom.
ENCODERS = {
    "unet": (
        "model.0.",
        "model.1.submodule.0.",
        "model.1.submodule.1.submodule.0.",
        "model.1.submodule.1.submodule.1.submodule.",
    ),
    "dynunet": ("input_block.", "downsamples.", "bottleneck."),
    "segresnet": ("convInit.", "down_layers.", "up_samples.0."),
    "swinunetr": ("swinViT.", *(f"encoder{i}." for i in (1, 2, 3, 4, 10))),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_encoder_of_every_network(name: str) -> None:
    config = compose.plain(compose.compose(compose.Request([f"model={name}"])))
    model = build(config["model"], "model")
    every = [n for n, _ in model.named_parameters()]
    expected = {n for n in every if n.startswith(tuple("backbone." + p for p in ENCODERS[name]))}
    edge = 64 if name == "swinunetr" else 32
    assert encoder_parameters(model, torch.zeros(1, 1, edge, edge, edge)) == expected
    assert model.training, "the mode is as before"


class TwoGrids(nn.Module):
    """Down, normalise, up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv3d(1, 4, 2, stride=2)
        self.norm = nn.BatchNorm3d(4)
        self.bottom = nn.Conv3d(4, 4, 1)
        self.up = nn.ConvTranspose3d(4, 4, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.bottom(self.norm(self.down(x)).relu()).relu())


def made() -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(TwoGrids(), features=4)


def test_it_stays_from_the_second_hospital_on_with_its_running_statistics() -> None:
    world = World(FrozenEncoder(), model=made())
    start = world.weights()
    world.learn(0, steps=3)
    first = world.weights()
    assert not torch.equal(start["backbone.down.weight"], first["backbone.down.weight"])
    world.learn(1, steps=3)
    last = world.weights()
    for name, value in first.items():
        frozen = name.startswith(("backbone.down", "backbone.norm", "backbone.bottom"))
        assert torch.equal(last[name][: len(value)] if value.ndim else last[name], value) == frozen, name


def test_a_network_of_one_grid_has_none_and_is_refused_before_it_trains() -> None:
    world = World(FrozenEncoder())
    with pytest.raises(LifelongCTError, match="no encoder"):
        world.learn(0)
    assert not world.losses


def test_names_say_it_otherwise() -> None:
    x = torch.zeros(1, 1, 8, 8, 8)
    found = encoder_parameters(made(), x, ["backbone.down.*"])
    assert found == {"backbone.down.weight", "backbone.down.bias"}
    with pytest.raises(LifelongCTError, match=r"swin"):
        encoder_parameters(made(), x, ["backbone.swin*"])
    with pytest.raises(LifelongCTError, match="list of names"):
        FrozenEncoder("backbone.*")  # type: ignore[arg-type]
