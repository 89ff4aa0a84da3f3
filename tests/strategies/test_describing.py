import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import World, model
from torch import nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.losses.dice_ce import PartialDiceCE
from lifelong_ct.memory.selection import NEEDS
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.strategies.describing import LENGTH, Describer, head_gradient, uncertainty
from lifelong_ct.strategies.replay import Replay


class Wants(Reservoir):
    """A reservoir that asks for descriptions."""

    def __init__(self, *needs: str) -> None:
        self.needs = frozenset(needs)


def space() -> LabelSpace:
    found = LabelSpace(["liver", "spleen"])
    found.see(["liver", "spleen"])
    return found


def after_forward(
    net: nn.Module, describer: Describer, x: torch.Tensor, y: torch.Tensor, **changes: Any
) -> Any:
    """A learner whose micro-batch has been through the model."""
    describer.watch(net)
    clock = SimpleNamespace(train_iterations=7, train_exp_counter=0)
    fields = {
        "mb_output": net(x),
        "mb_y": y,
        "clock": clock,
        "boundaries": True,
        "micro_step": 1,
        "accumulate": 2,
        "_criterion": PartialDiceCE(describer.space),
    }
    return SimpleNamespace(**{**fields, **changes})


def patches(count: int = 2, edge: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randint(-200, 300, (count, 1, edge, edge, edge), generator=rng, dtype=torch.int16)
    return x, torch.randint(0, 3, x.shape, generator=rng, dtype=torch.uint8)


def net(width: int = 3) -> Any:
    found = model()
    found.grow(width)
    return found


def said(*needs: str, x: torch.Tensor, y: torch.Tensor, width: int = 3, **changes: Any) -> list[Any]:
    describer = Describer(Wants(*needs), space())
    return describer(after_forward(net(width), describer, x, y, **changes), y)


def test_organs_are_counted_by_their_labels() -> None:
    x, y = patches()
    y[1, 0, :, :, :4] = IGNORE
    found = said("organs", x=x, y=y)
    for i in range(2):
        assert found[i].organs == {"liver": int((y[i] == 1).sum()), "spleen": int((y[i] == 2).sum())}
    assert said("organs", x=x, y=torch.zeros_like(y))[0].organs == {}


def test_partially_annotated_voxels_show_no_organ() -> None:
    codes = space()
    lut = codes.encode_lut(["liver"])
    y = torch.from_numpy(lut)[torch.tensor([0, 0, 1, 0])].reshape(1, 1, 1, 2, 2)
    describer = Describer(Wants("organs"), codes)
    assert describer.organs(y) == [{"liver": 1}]


def test_the_loss_is_that_of_each_patch_alone() -> None:
    x, y = patches(3)
    criterion = PartialDiceCE(space())
    found = said("loss", x=x, y=y)
    for i in range(3):
        alone = criterion(net()(x)[i : i + 1], y[i : i + 1]).item()
        assert found[i].scores["loss"] == pytest.approx(alone, rel=1e-5)


def test_any_criterion_will_do() -> None:
    class Plain(nn.Module):
        def forward(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(logits, y[:, 0].long())

    x, y = patches()
    found = said("loss", x=x, y=y, _criterion=Plain())
    assert found[1].scores["loss"] == pytest.approx(Plain()(net()(x)[1:], y[1:]).item(), rel=1e-5)


def test_replayed_patches_behind_the_new_ones_are_not_described() -> None:
    x, y = patches(3)
    describer = Describer(Wants(*NEEDS), space())
    found = describer(after_forward(net(), describer, x, y), y[:2])
    assert len(found) == 2
    alone = Describer(Wants(*NEEDS), space())
    first = alone(after_forward(net(), alone, x[:2], y[:2]), y[:2])
    for a, b in zip(found, first):
        assert a.scores == pytest.approx(b.scores, rel=1e-4)
        assert a.vectors.keys() == b.vectors.keys() == {"embedding", "mean", "gradient"}


def test_uncertainty_by_hand() -> None:
    """Two voxels with probabilities (½, ½) and (1, 0): ½ of log 2; padding does not count."""
    logits = torch.tensor([[0.0, 60.0, 5.0], [0.0, -60.0, 5.0]]).reshape(1, 2, 1, 1, 3)
    y = torch.tensor([0, 0, IGNORE], dtype=torch.uint8).reshape(1, 1, 1, 1, 3)
    assert uncertainty(logits, y).item() == pytest.approx(0.5)
    assert uncertainty(torch.zeros(1, 5, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2)).item() == pytest.approx(1.0)
    assert uncertainty(torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2)).item() == 0.0


def test_tiling_a_patch_changes_neither_uncertainty_nor_loss() -> None:
    logits, y = torch.randn(1, 3, 4, 4, 4), patches(1, 4)[1]
    tiled, labels = logits.repeat(1, 1, 2, 2, 2), y.repeat(1, 1, 2, 2, 2)
    assert uncertainty(tiled, labels).item() == pytest.approx(uncertainty(logits, y).item(), rel=1e-5)


def test_the_embedding_is_the_mean_of_the_deepest_map() -> None:
    """Of the resolutions 8, 4, 2 and 8 again the map after the activation at 2."""
    inner = nn.Sequential(nn.Conv3d(4, 6, 3, 2, 1), nn.InstanceNorm3d(6), nn.PReLU())
    backbone = nn.Sequential(
        nn.Conv3d(1, 4, 3, 2, 1), inner, nn.Upsample(scale_factor=4), nn.Conv3d(6, 4, 1), nn.PReLU()
    )
    whole = model()
    whole.backbone = backbone
    whole.grow(3)
    x, y = patches()
    describer = Describer(Wants("embedding"), space())
    found = describer(after_forward(whole, describer, x, y), y)
    deepest = inner(backbone[0](whole.normalise(x))).mean((2, 3, 4))
    for i in range(2):
        assert np.allclose(found[i].vectors["embedding"], deepest[i].detach().numpy(), atol=1e-5)
        assert found[i].vectors["embedding"].dtype == np.float32
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in whole.modules())


def test_the_mean_is_that_of_the_directions_of_this_experience() -> None:
    describer, whole, units = Describer(Wants("mean"), space()), net(), []
    for seed in range(3):
        x, y = patches(seed=seed)
        strategy = after_forward(whole, describer, x, y)
        for told in describer(strategy, y):
            vector = told.vectors["embedding"]
            units.append(vector / np.linalg.norm(vector))
            assert np.allclose(told.vectors["mean"], np.mean(units, 0), atol=1e-5)
    strategy = after_forward(whole, describer, x, y)
    strategy.clock.train_exp_counter = 1
    assert np.allclose(describer(strategy, y)[0].vectors["mean"], units[-2], atol=1e-5)
    assert describer.state_dict() == {}


def test_without_boundaries_the_mean_is_that_of_the_run_and_outlives_a_checkpoint() -> None:
    describer, whole, units = Describer(Wants("mean"), space()), net(), []
    for seed in range(4):
        x, y = patches(seed=seed)
        strategy = after_forward(whole, describer, x, y, boundaries=False)
        strategy.clock.train_exp_counter = seed
        for told in describer(strategy, y):
            vector = told.vectors["embedding"]
            units.append(vector / np.linalg.norm(vector))
            assert np.allclose(told.vectors["mean"], np.mean(units, 0), atol=1e-5)
        state, describer = describer.state_dict(), Describer(Wants("mean"), space())
        describer.load_state_dict(state)


def test_gradients_are_those_of_the_head_by_autograd() -> None:
    """Angles between projected gradients are those between the real ones, within what 64 numbers keep."""
    whole, criterion = net(), PartialDiceCE(space())
    x, y = patches(6)
    real = []
    for i in range(6):
        whole.zero_grad()
        criterion(whole(x[i : i + 1]), y[i : i + 1]).backward()
        gradient = torch.cat([whole.head.weight.grad.flatten(1), whole.head.bias.grad[:, None]], 1)
        real.append(gradient.flatten().numpy().copy())
    describer = Describer(Wants("gradient"), space())
    found = [told.vectors["gradient"] for told in describer(after_forward(whole, describer, x, y), y)]
    assert all(v.shape == (LENGTH,) and v.dtype == np.float32 for v in found)
    for i in range(6):
        for j in range(6):
            assert cosine(found[i], found[j]) == pytest.approx(cosine(real[i], real[j]), abs=0.4)
    off = [abs(cosine(found[i], found[j]) - cosine(real[i], real[j])) for i in range(6) for j in range(i)]
    assert np.mean(off) < 0.15


def test_projected_gradients_are_linear_and_outlive_growth_of_the_head() -> None:
    features = torch.randn(1, 4, 2, 2, 2)
    slope = torch.randn(1, 3, 2, 2, 2)
    wide = torch.cat([slope, torch.zeros(1, 2, 2, 2, 2)], 1)
    assert np.allclose(head_gradient(slope, features), head_gradient(wide, features), atol=1e-5)
    assert np.allclose(2 * head_gradient(slope, features), head_gradient(2 * slope, features), atol=1e-4)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_offered_orders_patches_by_step_and_place() -> None:
    x, y = patches()
    assert [told.scores["offered"] for told in said("organs", x=x, y=y)] == [7.5, 7.75]


def test_descriptions_leave_the_training_as_it_was() -> None:
    plain, curious = Replay(Reservoir()), Replay(Wants(*NEEDS))
    worlds = [World(replay, bind={"exemplar_bytes": 1 << 20}) for replay in (plain, curious)]
    for world in worlds:
        world.learn(0, 3)
        world.learn(1, 3)
    one, two = (world.weights() for world in worlds)
    assert all(torch.equal(one[key], two[key]) for key in one)
    (exemplar, _), *_ = curious.memory.held()
    assert set(exemplar.description.scores) == {"offered", "loss", "uncertainty"}
    assert all(math.isfinite(v) for v in exemplar.description.scores.values())


def test_a_model_without_a_head_is_told() -> None:
    describer = Describer(Wants("gradient"), space())
    with pytest.raises(LifelongCTError, match="head"):
        describer.watch(nn.Conv3d(1, 3, 1))


def test_what_is_no_policy_or_needs_what_nobody_knows_is_told() -> None:
    with pytest.raises(LifelongCTError, match="PartialDiceCE is no selection policy"):
        Replay(PartialDiceCE(space()))  # type: ignore[arg-type]
    with pytest.raises(LifelongCTError, match="weather"):
        Replay(Wants("weather"))
