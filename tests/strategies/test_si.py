import math
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SynapticIntelligencePlugin
from tiny import World
from torch import nn
from toy import trained, walk

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.strategies.si import SI

CURVE = torch.tensor([1.0, 3.0])
START, RATE, STEPS = 2.0, 0.01, 50


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.full((2,), START))


def bowl(model: Any) -> torch.Tensor:
    """½ Σ a θ²."""
    return (CURVE * model.theta.square()).sum() / 2


def descend(model: Any) -> None:
    model.theta -= RATE * model.theta.grad


def bound(plugin: SI) -> SI:
    World(plugin)
    return plugin


def test_path_integral_of_a_quadratic_is_the_fall_of_the_loss() -> None:
    """SGD goes θ = θ₀ qᵗ with q = 1 - η a, so ω = η Σ (a θ)² = η a² θ₀² (1 - q²ᵀ) / (1 - q²); as η → 0 that is the fall
    ½ a θ₀² (1 - q²ᵀ) of the loss, from which it differs by the factor 1 / (1 - η a / 2)."""
    si, model = bound(SI(1.0, damping=0.1)), Point()
    walk(si, model, [bowl] * STEPS, descend)
    for i, a in enumerate(CURVE.tolist()):
        q = (1 - RATE * a) ** STEPS
        omega = RATE * a**2 * START**2 * (1 - q**2) / (1 - (1 - RATE * a) ** 2)
        fall = a * START**2 * (1 - q**2) / 2
        assert omega == pytest.approx(fall / (1 - RATE * a / 2))
        way = START * (1 - q)
        assert si.importance["theta"][i].item() == pytest.approx(omega / (way**2 + 0.1), rel=1e-4)


def test_a_second_experience_adds_to_the_importances_without_the_penalty() -> None:
    """By hand in float64: the penalty moves the weights, but its slope is not in ω."""
    si, model = bound(SI(0.7, damping=0.1)), Point()
    walk(si, model, [bowl] * 5, descend)
    first = si.importance["theta"].double()
    anchor = theta = model.theta.detach().double()
    omega = torch.zeros(2, dtype=torch.double)
    for _ in range(4):
        slope = CURVE.double() * (theta - 5)
        moved = theta - RATE * (slope + 2 * 0.7 * first * (theta - anchor))
        omega -= slope * (moved - theta)
        theta = moved

    def other(model: Any) -> torch.Tensor:
        return (CURVE * (model.theta - 5).square()).sum() / 2

    walk(si, model, [other] * 4, descend)
    expected = first + omega / ((theta - anchor).square() + 0.1)
    torch.testing.assert_close(si.importance["theta"].double(), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(model.theta.detach().double(), theta, rtol=1e-5, atol=0)


def test_clipping_and_weight_decay_are_in_the_way_and_not_in_the_slope() -> None:
    si, model = bound(SI(1.0, damping=0.5)), Point()

    def clipped_and_decayed(model: Any) -> None:
        model.theta.grad.mul_(0.1)  # in place, as clip_grad_norm_
        model.theta -= RATE * (model.theta.grad + 0.3 * model.theta)

    walk(si, model, [bowl], clipped_and_decayed)
    for i, a in enumerate(CURVE.tolist()):
        way = RATE * (0.1 * a * START + 0.3 * START)
        assert si.importance["theta"][i].item() == pytest.approx(a * START * way / (way**2 + 0.5), rel=1e-4)


def test_a_weight_that_raised_the_loss_has_no_importance() -> None:
    si, model = bound(SI(1.0)), Point()

    def climb(model: Any) -> None:
        model.theta += RATE * model.theta.grad

    walk(si, model, [bowl], climb)
    assert si.importance["theta"].tolist() == [0.0, 0.0]


def test_weights_of_two_hospitals_are_those_of_avalanche_without_its_alias(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its `.cpu().flatten()` is the live weight on a CPU, so it is made a copy here; its penalty has a ½. Later
    hospitals differ: its ω contains the penalty's slope. The damping keeps its ceiling of 0.001 out of play."""

    def copied(model: Any, target: Any, excluded: Any) -> None:
        for name, p in SynapticIntelligencePlugin.allowed_parameters(model, excluded):
            target[name].data = p.detach().clone().flatten()

    monkeypatch.setattr(SynapticIntelligencePlugin, "extract_weights", staticmethod(copied))
    ours = trained(SI(1e6, damping=1e4), steps=6, lr=0.02, hospitals=2)
    theirs = trained(SynapticIntelligencePlugin(si_lambda=2e6, eps=1e4), steps=6, lr=0.02, hospitals=2)
    free = trained(steps=6, lr=0.02, hospitals=2)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)
    assert max((ours[n] - free[n]).abs().max() for n in ours) > 1e-3, "the penalty did something"


@pytest.mark.parametrize(
    "wrong", [{"si_lambda": -1}, {"si_lambda": 1, "damping": 0}, {"si_lambda": math.inf}]
)
def test_wrong_arguments_are_told(wrong: dict) -> None:
    with pytest.raises(LifelongCTError, match=r"si_lambda|damping"):
        SI(**wrong)
