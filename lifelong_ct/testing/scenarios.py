"""What a strategy requires is honoured before a run, and is true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.core.errors import DataError, LifelongCTError, Refused
from lifelong_ct.core.protocols import Batch
from lifelong_ct.reporting.build import make_reporters
from lifelong_ct.testing.world import TinyWorld
from lifelong_ct.training.run import Run


def check_online(name: str, config: Any, folder: Path, needs: dict[str, Any]) -> None:
    """On `stream=online`, whose cases come once and where nobody tells a boundary, a strategy that needs a boundary or
    past cases is refused, with what it needs and what to do.

    Args:
        name: of the strategy.
        config: composed, with `stream=online`.
        folder: for reports.
        needs: `requires` of the YAML.

    Raises:
        AssertionError: it is not refused, or refused although it says that it needs neither.
    """
    again = bool(needs.get("past_data")) != bool(
        needs.get("reinitialise")
    )  # with both, it trains once on everything
    expected = bool(needs.get("boundaries")) or bool(needs.get("held_out")) or again
    refused = _refusal(config, folder)
    if refused is None:
        assert not expected, f"{name} requires {needs} and is not refused where that is not there"
        return
    assert expected, f"{name} requires nothing and is refused: {refused}"
    assert name in refused.what, f"the reason does not name {name}: {refused.what}"
    assert refused.fix, "the reason names no way out"


def _refusal(config: Any, folder: Path) -> Refused | None:
    try:
        blueprint = Blueprint(config, [])
        Run(blueprint.options(), make_reporters({}, folder, blueprint.redact, None))
    except Refused as refused:
        return refused
    return None


def check_unbounded(name: str, plugins: Callable[[], Sequence[SupervisedPlugin]]) -> None:
    """Who says `boundaries: false` learns where no hook around experiences fires, keeps its declared bytes, and learns the
    same wherever the boundary that nobody tells lies.

    Raises:
        AssertionError: with what does not hold.
    """
    world, whole = (TinyWorld(plugins, 2, boundaries=False) for _ in range(2))
    for hospital in (0, 1):
        world.learn(hospital, steps=2)
    whole.learn_joined(steps=2)
    found, expected = (each.learner.model.state_dict() for each in (world, whole))
    different = [key for key in expected if not torch.equal(found[key], expected[key])]
    assert not different, (
        f"{name} learns otherwise where the same patches come as one experience ({', '.join(different)}): it looks at the "
        "clock's experience or at a hospital's name; ask `context.present(strategy)`, or write `requires.boundaries: true`"
    )
    for plugin, limit in zip(world.plugins, world.declared, strict=True):
        for kind, held in plugin.held_bytes().items():
            assert not limit or held <= limit.get(kind, 0), f"{name} holds {held} of {kind}, declared {limit}"


def check_held_out(
    name: str, plugins: Callable[[], Sequence[SupervisedPlugin]], needs: dict[str, Any]
) -> None:
    """Who does not say `held_out: true` reads no patch but those that it trains on.

    Args:
        name: of the strategy.
        plugins: makes its plugins.
        needs: `requires` of the YAML.

    Raises:
        AssertionError: it reads others.
    """
    assert needs.get("held_out") or not reads_held_out(plugins), (
        f"{name} reads patches that it does not train on: write requires.held_out: true"
    )


def reads_held_out(plugins: Callable[[], Sequence[SupervisedPlugin]]) -> bool:
    """Whether plugins read patches of two tiny hospitals beside those that are trained on."""
    world = TinyWorld(plugins, 2)
    for source in world.sources:
        _show_once(source)
    try:
        for hospital in range(2):
            world.learn(hospital)
    except LifelongCTError as error:
        if error.where == _ONCE:
            return True
        raise
    return False


_ONCE = "data.schedule"


def _show_once(source: Any) -> None:
    """As a loader of one pass: one batch, then its case is closed."""
    read = source.batch

    def batch(step: int) -> Batch:
        if step:
            raise DataError(f"batch {step} of 1", _ONCE, "use data.schedule=epochs", "closed")
        shown: Batch = read(step)
        return shown

    source.batch, source.total = batch, 1
