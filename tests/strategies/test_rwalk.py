from typing import Any

import pytest
import torch
from tiny import World
from torch import nn
from toy import walk

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.strategies.rwalk import RWalk

CURVE = torch.tensor([2.0, 1.0])
RATE = 0.1


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(2))


def bowl(model: Any) -> torch.Tensor:
    return (CURVE * model.theta.square()).sum() / 2


def descend(model: Any) -> None:
    model.theta -= RATE * model.theta.grad


def climb(model: Any) -> None:
    model.theta += RATE * model.theta.grad


def bound(plugin: RWalk) -> RWalk:
    World(plugin)
    return plugin


# Three steps in windows of two, α = 0.9, ε = 0.001, by hand.
# a = 2: θ 1, .8, .64, .512; g 2, 1.6, 1.28; F 4, .9 · 2.56 + .1 · 4 = 2.704, .9 · 1.6384 + .1 · 2.704 = 1.74496
# a = 1: θ 1, .9, .81, .729; g 1, .9, .81; F 1, .9 · .81 + .1 = .829, .9 · .6561 + .1 · .829 = .67339
FISHER = [1.74496, 0.67339]
SCORE = [
    (2 * 0.2 + 1.6 * 0.16) / (0.5 * 2.704 * 0.36**2 + 0.001)
    + 1.28 * 0.128 / (0.5 * 1.74496 * 0.128**2 + 0.001),
    (1 * 0.1 + 0.9 * 0.09) / (0.5 * 0.829 * 0.19**2 + 0.001)
    + 0.81 * 0.081 / (0.5 * 0.67339 * 0.081**2 + 0.001),
]


def test_fisher_score_and_importance_by_hand() -> None:
    rwalk, model = bound(RWalk(1.0, window=2)), Point()
    walk(rwalk, model, [bowl] * 3, descend)
    assert rwalk.fisher["theta"].tolist() == pytest.approx(FISHER, rel=1e-5)
    assert rwalk.score["theta"].tolist() == pytest.approx(SCORE, rel=1e-4)
    expected = [f / max(FISHER) + s / max(SCORE) for f, s in zip(FISHER, SCORE, strict=True)]
    assert rwalk.importance["theta"].tolist() == pytest.approx(expected, rel=1e-4)


def test_a_window_that_raised_the_loss_scores_nothing_and_scores_are_averaged() -> None:
    rwalk, model = bound(RWalk(0.0, window=2)), Point()
    walk(rwalk, model, [bowl] * 3, descend)
    walk(rwalk, model, [bowl] * 2, climb)
    assert rwalk.score["theta"].tolist() == pytest.approx([s / 2 for s in SCORE], rel=1e-4)


def test_fisher_goes_on_over_experiences() -> None:
    rwalk, model = bound(RWalk(0.0, window=2)), Point()
    walk(rwalk, model, [bowl] * 3, descend)
    walk(rwalk, model, [bowl], descend)
    slopes = [2 * 0.512, 0.729]
    expected = [0.9 * g**2 + 0.1 * f for g, f in zip(slopes, FISHER, strict=True)]
    assert rwalk.fisher["theta"].tolist() == pytest.approx(expected, rel=1e-5)


def test_penalty_is_lambda_times_importance_times_squared_distance() -> None:
    rwalk, model = bound(RWalk(3.0)), Point()
    rwalk.importance = {"theta": torch.tensor([0.5, 2.0])}
    rwalk.anchor = {"theta": torch.tensor([0.0, 3.0])}
    assert rwalk.penalty(model).item() == pytest.approx(3 * (0.5 * 1 + 2 * 4))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rwalk_lambda": -1},
        {"rwalk_lambda": 1, "alpha": 0},
        {"rwalk_lambda": 1, "window": 0},
        {"rwalk_lambda": 1, "window": True},
        {"rwalk_lambda": 1, "damping": 0},
    ],
)
def test_wrong_arguments_are_told(wrong: dict) -> None:
    with pytest.raises(LifelongCTError):
        RWalk(**wrong)
