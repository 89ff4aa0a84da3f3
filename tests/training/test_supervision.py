"""Deep supervision: the loss of coarser levels, and what nobody but it notices."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hospitals import Heard, options, stream
from tiny import World
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.models.deep_supervision import DeeplySupervisedModel
from lifelong_ct.strategies.agem import AGEM
from lifelong_ct.strategies.der import DER
from lifelong_ct.strategies.ema_teacher import EMATeacher
from lifelong_ct.strategies.lora import LoRA
from lifelong_ct.strategies.lwf import LwF
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.training.run import Run
from lifelong_ct.training.supervision import as_coarse, supervised, taken

SGD = partial(torch.optim.SGD, lr=0.05)


def pyramid(seed: int = 0) -> DeeplySupervisedModel:
    """Levels of 4³ and 2³ for a patch of 8³."""
    torch.manual_seed(seed)
    backbone = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.LeakyReLU(),
        nn.Conv3d(4, 6, 2, 2), nn.LeakyReLU(), nn.Conv3d(6, 8, 2, 2), nn.LeakyReLU(),
        nn.ConvTranspose3d(8, 6, 2, 2), nn.ConvTranspose3d(6, 4, 2, 2),
    )  # fmt: skip
    return DeeplySupervisedModel(backbone, 4, {"6": 6, "4": 8})


def test_codes_are_those_of_the_voxels_in_the_middle() -> None:
    y = torch.arange(8, dtype=torch.uint8).view(1, 1, 8, 1, 1).expand(1, 1, 8, 2, 2)
    assert as_coarse(y, (8, 2, 2)).equal(y)
    assert as_coarse(y, (4, 1, 1)).flatten().tolist() == [1, 3, 5, 7]
    assert as_coarse(y, (2, 2, 2))[0, 0, :, 0, 0].tolist() == [2, 6]


def test_each_level_weighs_half_of_the_one_before_and_all_sum_to_one() -> None:
    y = torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)

    def criterion(logits: Tensor, codes: Tensor) -> Tensor:
        assert logits.shape[2:] == codes.shape[2:]
        assert len(logits) == len(codes)
        return logits.mean()

    coarse = [torch.full((3, 2, 4, 4, 4), 10.0), torch.full((3, 2, 2, 2, 2), 100.0)]
    found = supervised(criterion, torch.tensor(1.0), coarse, y)
    assert found.item() == pytest.approx((1 + 10 / 2 + 100 / 4) / 1.75)


def test_the_answer_is_that_of_full_resolution_and_only_training_asks_the_levels() -> None:
    model = pyramid()
    model.grow(3)
    x = torch.randint(-100, 100, (2, 1, 8, 8, 8), dtype=torch.int16)
    logits = model(x)
    assert logits.shape == (2, 3, 8, 8, 8)
    assert [tuple(level.shape) for level in taken(model)] == [(2, 3, 4, 4, 4), (2, 3, 2, 2, 2)]
    model.eval()
    torch.testing.assert_close(model(x), logits)
    assert taken(model) == []


def test_the_levels_learn_and_their_gradient_is_that_of_the_weighted_sum() -> None:
    """Of one step of plain SGD, the weights move by -lr times it."""
    world = World(model=pyramid(), optimizer=SGD)
    before = pyramid()
    before.grow(2)
    world.space.see(["liver"])
    world.learn(0, steps=0)
    start = world.weights()
    before.load_state_dict(start)
    world.learn(0, steps=1)
    batch = world.sources[0].batch(0)
    logits = before(batch.x)
    levels = before.coarse[0]
    loss = world.learner._criterion(logits, batch.y)
    for i, (level, stride) in enumerate(zip(levels, (2, 4)), start=1):
        codes = batch.y[..., stride // 2 :: stride, stride // 2 :: stride, stride // 2 :: stride]
        loss = loss + world.learner._criterion(level, codes) / 2**i
    (loss / 1.75).backward()
    after = world.weights()
    for name, parameter in before.named_parameters():
        torch.testing.assert_close(after[name], start[name] - 0.05 * parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        list,
        lambda: [Replay(Reservoir())],
        lambda: [AGEM(Reservoir(), exemplars_per_step=2)],
        lambda: [DER(Reservoir())],
        lambda: [LwF(lwf_lambda=1.0)],
        lambda: [EMATeacher()],
    ],
)
def test_strategies_train_with_it_in_parts_too_and_a_resumed_run_goes_on(
    make: Callable[[], list[Any]],
) -> None:
    worlds = []
    for at_once in (None, 1):
        world = World(*make(), model=pyramid(), optimizer=SGD, bind={"new_model": pyramid})
        world.learner.at_once = at_once
        world.learn(0, steps=2)
        state = copy.deepcopy(world.state_dict())
        world.learn(1, steps=2)
        worlds.append(world)
    torch.testing.assert_close(worlds[0].weights(), worlds[1].weights(), rtol=1e-4, atol=1e-5)
    resumed = World(*make(), model=pyramid(1), optimizer=SGD, bind={"new_model": pyramid})
    resumed.load_state_dict(state)
    resumed.learn(1, steps=2)
    torch.testing.assert_close(resumed.weights(), worlds[1].weights(), rtol=0, atol=0)


def test_a_copy_has_levels_of_its_own() -> None:
    model = pyramid()
    model(torch.zeros(1, 1, 8, 8, 8))
    twin = copy.deepcopy(model)
    twin(torch.zeros(2, 1, 8, 8, 8))
    assert [len(level) for level in taken(model)] == [1, 1]
    assert [len(level) for level in taken(twin)] == [2, 2]


@pytest.mark.parametrize("levels", [{}, {"decoder": 4}])
def test_a_level_that_is_not_there_is_refused(levels: dict[str, int]) -> None:
    with pytest.raises(LifelongCTError) as error:
        DeeplySupervisedModel(nn.Sequential(nn.Conv3d(1, 4, 1)), 4, levels)
    assert error.value.where == "model.levels"


def test_a_strategy_that_takes_the_network_apart_is_refused(tmp_path: Path) -> None:
    made = options(stream({"name": "a"}), tmp_path, new_model=pyramid, new_plugins=lambda: [LoRA()])
    with pytest.raises(LifelongCTError) as error:
        Run(made, Heard()).execute()
    assert "LoRA takes the network apart" in error.value.what
