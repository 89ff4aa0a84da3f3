"""The loop with methods of ours and of Avalanche, held against micro-batches and hand-built losses."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from avalanche.training.plugins import AGEMPlugin, EWCPlugin
from by_hand import sample_loss
from tiny import World

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.strategies.ewc import OnlineEWC
from lifelong_ct.strategies.lwf import LwF

Weights = dict[str, torch.Tensor]


def stock_ewc(strength: float = 1e3) -> SupervisedPlugin:
    return EWCPlugin(ewc_lambda=strength, mode="online", decay_factor=1.0)


def stock_agem() -> SupervisedPlugin:
    return AGEMPlugin(patterns_per_experience=2, sample_size=2)


METHODS: dict[str, Callable[[], list[SupervisedPlugin]]] = {
    "naive": list,
    "ewc": lambda: [OnlineEWC(ewc_lambda=1e3, patches=3)],
    "lwf": lambda: [LwF(lwf_lambda=2.0)],
    "stock EWC": lambda: [stock_ewc()],
    "stock A-GEM": lambda: [stock_agem()],
}
MIXED = [["liver"], ["spleen"]]
"""What two patches of a hospital annotate."""


class Gradient(SupervisedPlugin):
    """Keeps the gradient of the last step as it was when its turn came."""

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.value = torch.cat([p.grad.flatten() for p in strategy.model.parameters()])


class Steps(SupervisedPlugin):
    """Keeps weights and loss of every step, as they are before the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Weights, float]] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.append((copied(strategy.model), strategy.loss.item()))


def copied(model: torch.nn.Module) -> Weights:
    return {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}


@pytest.mark.parametrize("method", METHODS)
def test_four_micro_batches_of_one_equal_one_batch_of_four(method: str) -> None:
    first, whole, parts = Gradient(), Gradient(), Gradient()
    setting: dict[str, Any] = {
        "annotated": [MIXED, [["liver"], ["spleen"], ["liver", "spleen"], []]],
        "contrast": [1, -1],  # so different that A-GEM has to project
        "optimizer": partial(torch.optim.AdamW, lr=3e-2),
        "items": 4,
    }
    large = World(first, *METHODS[method](), whole, batch_size=4, **setting)
    large.learn(0, steps=40)
    small = World(Gradient(), *METHODS[method](), parts, batch_size=1, accumulate=4, **setting)
    small.load_state_dict(large.state_dict())
    for world in (large, small):
        world.learn(1, steps=2)
    assert (whole.value - parts.value).norm() / whole.value.norm() <= 1e-5
    assert torch.equal(first.value, whole.value) != (method == "stock A-GEM"), "A-GEM projects, others do not"


def hand_built_loss(world: World, weights: Weights, hospital: int, numbers: list[int]) -> torch.Tensor:
    """Mean over patches of the per-sample loss, from its definition."""
    source, losses = world.sources[hospital], []
    for i in numbers:
        x, y, _ = source.patch(i)
        organs, lut = source.annotated[i % 2], source.luts[i % 2].tolist()
        labels = [[None, *organs][lut.index(code)] for code in y.flatten().tolist()]
        logits = torch.func.functional_call(world.learner.model, weights, (x[None],))
        losses.append(sample_loss(logits[0].flatten(1), labels, organs, world.space.channels))
    return torch.stack(losses).mean()


def gradient(loss: torch.Tensor, weights: Weights) -> Weights:
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def test_stock_agem_s_reference_gradient_is_that_of_a_hand_built_loss() -> None:
    agem, steps = stock_agem(), Steps()
    world = World(agem, steps, annotated=[MIXED, MIXED])
    world.learn(0)
    world.learn(1, steps=1)
    weights, _ = steps.seen[-1]
    expected = gradient(hand_built_loss(world, weights, hospital=0, numbers=[0, 1]), weights)
    flat = torch.cat([g.flatten() for g in expected.values()])
    torch.testing.assert_close(agem.reference_gradients, flat, rtol=1e-4, atol=1e-6)


def test_stock_ewc_s_fisher_and_penalty_are_those_of_a_hand_built_loss() -> None:
    ewc, steps, given = stock_ewc(strength=5e4), Steps(), Gradient()
    world = World(ewc, steps, given, annotated=[MIXED, MIXED])
    world.learn(0)
    anchor = copied(world.learner.model)
    loss = hand_built_loss(world, anchor, hospital=0, numbers=[0, 1])
    fisher = {name: g.square() for name, g in gradient(loss, anchor).items()}
    for name, value in fisher.items():
        torch.testing.assert_close(ewc.importances[0][name].data, value, rtol=1e-3, atol=1e-9)
    world.learn(1, steps=2)
    weights, seen = steps.seen[-1]
    penalty = 5e4 * sum((fisher[n] * (weights[n] - anchor[n]).square()).sum().item() for n in fisher)
    data = hand_built_loss(world, weights, hospital=1, numbers=[2, 3]).item()
    assert penalty > 1e-3 * data
    assert seen == pytest.approx(data + penalty, rel=1e-4)
    batch = gradient(hand_built_loss(world, weights, hospital=1, numbers=[2, 3]), weights)
    pull = {n: 1e5 * fisher[n] * (weights[n] - anchor[n]) for n in fisher}
    expected = torch.cat([(batch[n] + pull[n]).flatten() for n in fisher])
    assert (given.value - expected).norm() / expected.norm() <= 1e-5
