"""What is said of the plugins that are refused, shown with the plugins themselves."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.evaluation.metrics import Accuracy
from avalanche.training import losses
from avalanche.training import plugins as stock
from avalanche.training.plugins.checkpoint import CheckpointPlugin
from avalanche.training.regularization import LearningWithoutForgetting
from tiny import World

from lifelong_ct.avalanche_bridge.forwarding import StockPlugin
from lifelong_ct.avalanche_bridge.survey import stock_plugins
from lifelong_ct.avalanche_bridge.verdicts import REFUSED, VERDICTS
from lifelong_ct.core.errors import LifelongCTError


def forced(plugin: Any, **options: Any) -> World:
    """Two hospitals with a plugin that a run would refuse."""
    world = World(StockPlugin(plugin), **options)
    world.learn(0)
    world.learn(1)
    return world


BREAKING: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "GDumbPlugin": (lambda: stock.GDumbPlugin(2), AssertionError, ""),
    "MIRPlugin": (lambda: stock.MIRPlugin(1, 2, 2), AssertionError, ""),
    "CoPEPlugin": (lambda: stock.CoPEPlugin(2), ValueError, "No fc layer"),
    "BiCPlugin": (lambda: stock.BiCPlugin(2), AttributeError, "targets"),
    "CWRStarPlugin": (lambda: stock.CWRStarPlugin(torch.nn.Linear(1, 1)), AttributeError, "targets"),
    "GSS_greedyPlugin": (
        lambda: stock.GSS_greedyPlugin(2, input_size=[1, 8, 8, 8]),
        RuntimeError,
        "must match the size",
    ),
    "RARPlugin": (lambda: stock.RARPlugin(1, 2), torch.fx.proxy.TraceError, "symbolically traced"),
    "LFLPlugin": (lambda: stock.LFLPlugin(0.1), NotImplementedError, "get_features"),
    "FeatureDistillationPlugin": (stock.FeatureDistillationPlugin, AssertionError, "Task label"),
    "GenerativeReplayPlugin": (stock.GenerativeReplayPlugin, AttributeError, "generate"),
    "CurrentDataNCMUpdate": (stock.CurrentDataNCMUpdate, AssertionError, ""),
    "MemoryNCMUpdate": (stock.MemoryNCMUpdate, AssertionError, ""),
    "NCMOracle": (stock.NCMOracle, AssertionError, ""),
    "CurrentDataFeCAMUpdate": (stock.CurrentDataFeCAMUpdate, AssertionError, ""),
    "MemoryFeCAMUpdate": (lambda: stock.MemoryFeCAMUpdate(2), AssertionError, ""),
    "FeCAMOracle": (stock.FeCAMOracle, AssertionError, ""),
    "ICaRLLossPlugin": (losses.ICaRLLossPlugin, AttributeError, "targets"),
    "MaskedCrossEntropy": (losses.MaskedCrossEntropy, AttributeError, "classes_in_this_experience"),
    "_ICaRLPlugin": (lambda: stock_plugins()["_ICaRLPlugin"](2), AttributeError, ""),
    "_ExpertGatePlugin": (lambda: stock_plugins()["_ExpertGatePlugin"](), AttributeError, ""),
    "PackNetPlugin": (lambda: stock_plugins()["PackNetPlugin"](1), ValueError, "training epochs"),
    "CheckpointPlugin": (lambda: CheckpointPlugin(None), ValueError, "save_checkpoint"),
    "InteractiveLogger": (lambda: stock_plugins()["InteractiveLogger"](), TypeError, "metric_values"),
    "LwFPlugin": (stock.LwFPlugin, AttributeError, "targets_task_labels"),
}


@pytest.mark.parametrize("name", sorted(BREAKING))
def test_it_breaks_where_the_reason_says(name: str) -> None:
    make, error, text = BREAKING[name]
    with pytest.raises(error, match=text):
        forced(make())


def _lwf_grows_with_the_patch() -> None:
    lwf = LearningWithoutForgetting()
    new, old = torch.randn(2, 1, 3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    small = lwf._distillation_loss(new, old, {0, 1, 2})
    tiled = [each.repeat(1, 1, 4, 4, 4) for each in (new, old)]
    assert lwf._distillation_loss(*tiled, {0, 1, 2}).item() == pytest.approx(64 * small.item(), rel=1e-5)


def _si_finds_no_importance() -> None:
    plugin = stock.SynapticIntelligencePlugin(si_lambda=1e6)
    with_it, without = forced(plugin), World()
    without.learn(0)
    without.learn(1)
    assert all(bool((importance.data == 0).all()) for importance in plugin.ewc_data[1].values())
    one, two = with_it.weights(), without.weights()
    assert all(torch.equal(one[key], two[key]) for key in one), "it trains as if it were not there"


def _gem_keeps_what_may_not_be_kept() -> None:
    plugin = stock.GEMPlugin(patterns_per_experience=2, memory_strength=0.5)
    world = forced(plugin, bind={"sharing": dict.fromkeys(("first", "second"), "forbid")})
    assert plugin.memory_x[0].shape == (2, 1, 8, 8, 8)
    assert world.ledger.holders("exemplars") == {}
    assert plugin.G.shape == (1, sum(p.numel() for p in world.learner.model.parameters()))


def _from_scratch_keeps_the_head() -> None:
    """At learning rate 0 nothing moves, so what differs from the beginning is what was not reset."""
    world = World(StockPlugin(stock_plugins()["FromScratchTrainingPlugin"]()), clip=None)
    world.learn(0)
    learnt = world.learner.model.head.weight[:2].detach().clone()
    world.learner._make_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    world.learn(1)
    assert torch.equal(world.learner.model.head.weight[:2].detach(), learnt)


def _early_stopping_never_stops() -> None:
    world = World(StockPlugin(stock.EarlyStoppingPlugin(1, "test_stream", peval_mode="iteration")))
    world.learn(0, steps=5)
    assert len(world.losses) == 5


def _a_scheduler_does_not_reach_the_optimizer() -> None:
    rates: list[float] = []
    world = World(schedule="constant", on_step=lambda report: rates.append(report.lr))
    scheduler = torch.optim.lr_scheduler.StepLR(world.learner.optimizer, 1, gamma=0.1)
    world.learner.plugins.insert(0, stock.LRSchedulerPlugin(scheduler, step_granularity="iteration"))
    world.learn(0, steps=3)
    assert rates == [1e-2] * 3


def _accuracy_is_no_number_of_voxels() -> None:
    """All voxels right: not 1."""
    metric, truth = Accuracy(), torch.randint(0, 2, (1, 1, 2, 2, 2))
    logits = torch.cat([1.0 - truth, truth.float()], 1)
    metric.update(logits, truth)
    assert metric.result() != 1.0


def _a_generator_s_trainer_does_nothing() -> None:
    with_it, without = forced(stock.TrainGeneratorAfterExpPlugin()), World()
    without.learn(0)
    without.learn(1)
    one, two = with_it.weights(), without.weights()
    assert all(torch.equal(one[key], two[key]) for key in one)


def _nothing_is_evaluated() -> None:
    called: list[str] = []
    learner = World().learner
    learner.eval = lambda *args, **kwargs: called.append("eval")  # type: ignore[method-assign]
    world = World()
    world.learner.eval = learner.eval  # type: ignore[method-assign]
    world.learn(0)
    assert called == []


SHOWN: dict[str, Callable[[], None]] = {
    "LwFPlugin": _lwf_grows_with_the_patch,
    "SynapticIntelligencePlugin": _si_finds_no_importance,
    "GEMPlugin": _gem_keeps_what_may_not_be_kept,
    "FromScratchTrainingPlugin": _from_scratch_keeps_the_head,
    "EarlyStoppingPlugin": _early_stopping_never_stops,
    "LRSchedulerPlugin": _a_scheduler_does_not_reach_the_optimizer,
    "EvaluationPlugin": _accuracy_is_no_number_of_voxels,
    "TrainGeneratorAfterExpPlugin": _a_generator_s_trainer_does_nothing,
    "PeriodicEval": _nothing_is_evaluated,
}


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_the_reason_is_true(name: str) -> None:
    SHOWN[name]()


def test_what_is_said_of_those_that_run() -> None:
    """EWC's sum of squares has no ½; RWalk's penalty is 0/0 where an experience is shorter than its window."""
    plugin = stock.EWCPlugin(1.0, mode="online", decay_factor=1.0)
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 3.0)
    plugin.importances[0]["weight"] = plugin.saved_params[0]["weight"] = SimpleNamespace(
        expand=lambda shape: torch.ones(shape)
    )
    strategy = SimpleNamespace(
        clock=SimpleNamespace(train_exp_counter=1), model=model, device="cpu", loss=torch.zeros(())
    )
    plugin.before_backward(strategy)
    assert strategy.loss.item() == (3.0 - 1.0) ** 2
    with pytest.raises(LifelongCTError, match="the loss is nan"):
        forced(stock.RWalkPlugin(delta_t=10))


def test_every_reason_is_shown_here() -> None:
    assert set(BREAKING) | set(SHOWN) == {n for n, verdict in VERDICTS.items() if verdict.runs == REFUSED}
