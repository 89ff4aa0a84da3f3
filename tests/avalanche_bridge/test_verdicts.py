"""Every plugin of the installed Avalanche: those that run are run, and what is said of the others is shown."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training import plugins as stock
from avalanche.training.plugins.clock import Clock
from avalanche.training.storage_policy import ClassBalancedBuffer
from tiny import World

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.avalanche_bridge.stock import BRIDGES, adopt
from lifelong_ct.avalanche_bridge.survey import COMMAND, document, stock_plugins
from lifelong_ct.avalanche_bridge.verdicts import BRIDGE, REFUSED, UNMODIFIED, VERDICTS, check, check_target
from lifelong_ct.cli import compose
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.cli.conf import own_folder
from lifelong_ct.core.errors import LifelongCTError

ROOT = Path(__file__).resolve().parents[2]

RUNNING: dict[str, list[Callable[[], Any]]] = {
    "SupervisedPlugin": [SupervisedPlugin],
    "Clock": [Clock],
    "EWCPlugin": [
        lambda: stock.EWCPlugin(10.0, mode="online", decay_factor=0.5),
        lambda: stock.EWCPlugin(10.0),
    ],
    "MASPlugin": [stock.MASPlugin],
    "RWalkPlugin": [lambda: stock.RWalkPlugin(delta_t=1)],
    "AGEMPlugin": [lambda: stock.AGEMPlugin(patterns_per_experience=2, sample_size=2)],
    "ReplayPlugin": [lambda: stock.ReplayPlugin(mem_size=2)],
}
RUNS = [(name, make) for name, makes in RUNNING.items() for make in makes]


def names(runs: str) -> set[str]:
    return {name for name, verdict in VERDICTS.items() if verdict.runs == runs}


def test_there_is_a_verdict_on_every_plugin_of_the_installed_avalanche() -> None:
    assert set(stock_plugins()) == set(VERDICTS)


def test_the_table_in_the_docs_is_up_to_date() -> None:
    written = (ROOT / "docs" / "avalanche_plugins.md").read_text()
    assert written == document(), f"run: {COMMAND}"


def test_what_runs_is_run_here() -> None:
    assert set(RUNNING) == names(UNMODIFIED) | names(BRIDGE)
    assert set(BRIDGES) == names(BRIDGE)


@pytest.mark.parametrize(("name", "make"), RUNS)
def test_what_runs_learns_two_hospitals_and_resumes_to_identical_weights(
    name: str, make: Callable[[], Any]
) -> None:
    whole = World(make())
    whole.learn(0)
    state = copy.deepcopy(whole.state_dict())  # it holds the live weights
    whole.learn(1)
    resumed = World(make())
    assert resumed.plugins[0].lost_on_resume() == []  # type: ignore[attr-defined]
    resumed.load_state_dict(state)
    resumed.learn(1)
    one, two = whole.weights(), resumed.weights()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("name", "make"), [run for run in RUNS if run[0] not in ("Clock", "SupervisedPlugin", "AGEMPlugin")]
)
def test_what_runs_does_something(name: str, make: Callable[[], Any]) -> None:
    with_it, without = World(make()), World()
    for world in (with_it, without):
        world.learn(0, steps=6)
        world.learn(1, steps=6)
    one, two = with_it.weights(), without.weights()
    assert any(not torch.equal(one[key], two[key]) for key in one)


def test_agem_compares_with_the_gradient_of_what_it_kept() -> None:
    """It changes a step where the two disagree, which random patches need not."""
    plugin = stock.AGEMPlugin(patterns_per_experience=2, sample_size=2)
    world = World(plugin)
    world.learn(0)
    world.learn(1)
    assert len(plugin.reference_gradients) == sum(p.numel() for p in world.learner.model.parameters())


@pytest.mark.parametrize("name", sorted(names(REFUSED)))
def test_what_is_refused_is_refused_by_name_and_by_class_with_what_to_use(name: str) -> None:
    kind = stock_plugins()[name]
    for attempt in (lambda: check(kind), lambda: check_target(f"{kind.__module__}.{name}")):
        with pytest.raises(LifelongCTError) as error:
            attempt()
        assert name in error.value.what
        assert VERDICTS[name].why in error.value.what
        assert VERDICTS[name].ours in error.value.fix


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_what_is_ours_is_there(name: str) -> None:
    for ours in VERDICTS[name].ours.split():
        group, _, choice = ours.partition("=")
        if group not in ("strategy", "selection", "loss", "reporter"):
            continue
        assert (own_folder() / group / f"{choice}.yaml").is_file()


def test_a_run_that_names_one_ends_before_a_hospital_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Blueprint, "stream", lambda self: pytest.fail("a hospital was opened"))
    listed = "strategy.plugins=[{_target_: avalanche.training.plugins.CWRStarPlugin}]"
    config = compose.compose(compose.Request([listed, f"paths.state={tmp_path}"]))
    with pytest.raises(LifelongCTError, match=r"CWRStarPlugin.*\n.*\n.*use strategy=frozen_encoder"):
        Blueprint(config, []).options()


def test_a_class_of_avalanche_that_nobody_has_looked_at_is_refused() -> None:
    unknown = type("FuturePlugin", (SupervisedPlugin,), {"__module__": "avalanche.training.plugins.future"})
    with pytest.raises(LifelongCTError, match=r"nobody has looked.*FuturePlugin"):
        adopt(unknown())


def test_a_subclass_shares_the_verdict_and_the_bridge() -> None:
    class Mine(stock.EWCPlugin, stock.LwFPlugin):
        pass

    class Ours(stock.ReplayPlugin):
        pass

    with pytest.raises(LifelongCTError, match="LwFPlugin"):
        check(Mine)
    assert type(adopt(Ours(mem_size=2))) is BRIDGES["ReplayPlugin"]


def test_a_target_that_is_not_there_or_not_avalanche_s_is_left_to_others() -> None:
    for target in (
        "",
        "avalanche.nothing.Here",
        "avalanche.training.plugins.Nope",
        "lifelong_ct.core.errors.X",
    ):
        check_target(target)


def test_replay_of_other_policies_or_loaders_is_refused() -> None:
    policy = ClassBalancedBuffer(max_size=2)
    for wrong in (
        {"storage_policy": policy},
        {"batch_size": 1},
        {"task_balanced_dataloader": True},
    ):
        with pytest.raises(LifelongCTError, match=r"copied|loader"):
            adopt(stock.ReplayPlugin(mem_size=2, **wrong))
