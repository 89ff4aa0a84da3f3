"""Several plugins in one list: each adds its own term, to the loss over the union of new and stored patches."""

from typing import Any

import pytest
from tiny import World

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.cli import compose
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.strategies.ewc import OnlineEWC
from lifelong_ct.strategies.lwf import LwF, distillation
from lifelong_ct.strategies.replay import Replay


def plugins(name: str) -> Any:
    return compose.plain(compose.compose(compose.Request([f"strategy={name}"])))["strategy"]["plugins"]


def test_the_yaml_is_the_three_yamls_in_one_list() -> None:
    assert plugins("replay_ewc_lwf") == plugins("replay") + plugins("ewc") + plugins("lwf")


class Loss(SupervisedPlugin):
    """Keeps the loss as it is when its turn comes, and how many patches it is of."""

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.value, self.patches = strategy.loss.item(), len(strategy.mb_output)


class Terms(SupervisedPlugin):
    """What EWC and LwF should have added, at the weights of the step."""

    def __init__(self, ewc: OnlineEWC, lwf: LwF) -> None:
        super().__init__()
        self.ewc, self.lwf = ewc, lwf

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        moved = {n: p.detach() for n, p in strategy.model.named_parameters()}
        self.criterion = strategy._criterion(strategy.mb_output, strategy.mb_y).item()
        self.penalty = 50.0 * sum(
            (omega * (moved[n][: len(omega)] - self.ewc.anchor[n]) ** 2).sum().item()
            for n, omega in self.ewc.importance.items()
        )
        old = self.lwf.teacher(strategy.mb_x) if self.lwf.teacher else None
        self.kept = 0.5 * distillation(strategy.mb_output, old, 2.0).item() if old is not None else 0.0


def test_each_adds_its_term() -> None:
    ewc, lwf = OnlineEWC(100.0, patches=2), LwF(0.5)
    terms, before, between, after = Terms(ewc, lwf), Loss(), Loss(), Loss()
    world = World(Replay(Reservoir(), exemplars_per_batch=3), terms, before, ewc, between, lwf, after)
    world.learn(0, steps=6)
    world.learn(1, steps=4)
    assert before.patches == 2 + 3
    assert before.value == pytest.approx(terms.criterion, rel=1e-5)
    assert between.value - before.value == pytest.approx(terms.penalty, rel=1e-3)
    assert after.value - between.value == pytest.approx(terms.kept, rel=1e-3)
    assert min(terms.penalty, terms.kept) > 1e-4
