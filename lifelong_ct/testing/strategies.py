"""The contract of a strategy.

A third party's whole test::

    from lifelong_ct.testing.strategies import check_strategy

    def test_contract(tmp_path):
        check_strategy("mine", tmp_path)
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import torch

from lifelong_ct.cli import compose
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.cli.instantiate import build
from lifelong_ct.cli.train import train
from lifelong_ct.reporting.build import make_reporters
from lifelong_ct.testing.holding import check_flat, check_told
from lifelong_ct.testing.invariance import check_invariance
from lifelong_ct.testing.midway import check_midway
from lifelong_ct.testing.scenarios import check_held_out, check_online, check_unbounded
from lifelong_ct.training import checkpoint, planner
from lifelong_ct.training.run import Run

_TINY = ("debug=tiny", "reporter=quiet")
_SOURCE = re.compile(r"arxiv|doi|icml|iclr|neurips|nips|cvpr|eccv|miccai|tpami|pnas", re.IGNORECASE)


def check_strategy(name: str, folder: Path, *overrides: str) -> None:
    """Checks that `strategy=<name>` composes, lists every argument, cites its source, trains two tiny
    experiences, resumes in another run to identical weights and scores, and stays inside its declared bytes; on tiny
    hospitals in memory, that it holds no more after 20 of them than after 2 (or what it declares: `grows`), and that what it
    adds to the loss does not depend on the size of the patch, and that it goes on from the middle of one as if nobody had
    stopped it; and that a stream which it does not allow is refused.

    Args:
        name: of the YAML.
        folder: for the runs; empty.
        overrides: further ones, for example a limit that the strategy needs.

    Raises:
        AssertionError: with what does not hold.
    """
    config = compose.plain(_config(name, folder, "whole", *overrides))
    for plugin in config["strategy"].get("plugins") or []:
        check_arguments(plugin, name)
    check_alone(name, config)
    online = _config(name, folder, "online", *overrides, "stream=online")
    check_online(name, online, folder / "online", config["strategy"].get("requires") or {})
    whole = _run(name, folder, "whole", *overrides)
    assert whole["status"] == "finished", whole
    assert whole["scores"], "no hospital was scored"
    check_bytes(name, folder, *overrides)
    if (config["strategy"].get("requires") or {}).get("resumable", True) and len(whole["experiences"]) > 1:
        _run(name, folder, "stopped", "trainer.stop_after=1", *overrides)
        resumed = _run(name, folder, "stopped", *overrides)
        assert resumed["scores"] == whole["scores"], f"{name}: a resumed run has other scores"
        assert_same_weights(folder / "whole", folder / "stopped")


def check_alone(name: str, config: dict[str, Any]) -> None:
    """What needs no hospital: bytes, invariance, and learning without boundaries. In milliseconds."""
    strategy = config["strategy"]

    def plugins() -> list[Any]:
        made: list[Any] = build(strategy.get("plugins") or [], "strategy.plugins")
        return made

    grows = strategy.get("grows")
    assert grows is None or (isinstance(grows, str) and grows), f"{name}: `grows` is {grows!r}, not a formula"
    check_flat(name, plugins, grows)
    check_invariance(name, plugins)
    check_held_out(name, plugins, strategy.get("requires") or {})
    check_midway(name, plugins)
    if not (strategy.get("requires") or {}).get("boundaries"):
        check_unbounded(name, plugins)
        check_midway(name, plugins, boundaries=False)


def check_arguments(plugin: dict[str, Any], name: str, source: re.Pattern[str] = _SOURCE) -> None:
    """The YAML lists every constructor argument, and our class cites where its method comes from."""
    module, _, attribute = plugin["_target_"].rpartition(".")
    kind = getattr(importlib.import_module(module), attribute)
    if module.startswith("avalanche."):
        return  # stock: its arguments and sources are Avalanche's
    wanted = set(inspect.signature(kind).parameters)
    listed = set(plugin) - {"_target_"}
    assert wanted == listed, f"{name}.yaml lists {sorted(listed)}, the constructor takes {sorted(wanted)}"
    assert source.search(kind.__doc__ or ""), f"{attribute} cites no source in its docstring"


def check_bytes(name: str, folder: Path, *overrides: str) -> None:
    """What the newest checkpoint's strategy holds is not more than it declared before the run."""
    blueprint = Blueprint(_config(name, folder, "bytes", *overrides), [])
    run = Run(blueprint.options(), make_reporters({}, folder / "bytes", blueprint.redact, None))
    run.demands()
    weights = planner.parameter_bytes(run.options.new_whole_model())
    declared = [plugin.declared_bytes(weights) for plugin in run.plugins]
    state = checkpoint.load(newest(folder / "whole"))
    run.space.load_state_dict(state["label_space"])
    for plugin, own, limit in zip(run.plugins, state["strategy"], declared, strict=True):
        plugin.load_state_dict(own)
        check_told(name, plugin, limit)


def assert_same_weights(first: Path, second: Path) -> None:
    """The newest checkpoints of two run folders have bit-equal models."""
    one, two = (checkpoint.load(newest(folder))["learner"]["model"] for folder in (first, second))
    assert one.keys() == two.keys()
    different = [key for key in one if not torch.equal(one[key], two[key])]
    assert not different, f"other weights in {', '.join(different)}"


def newest(folder: Path) -> Path:
    """The last checkpoint of a run folder."""
    return max((folder / "checkpoints").glob("after_*"))


def _config(name: str, folder: Path, run: str, *overrides: str) -> Any:
    paths = (
        f"paths.run={folder / run}",
        f"paths.store={folder / 'store'}",
        f"paths.state={folder / 'state'}",
    )
    return compose.compose(compose.Request([f"strategy={name}", *_TINY, *paths, *overrides]))


def _run(name: str, folder: Path, run: str, *overrides: str) -> dict[str, Any]:
    return train(_config(name, folder, run, *overrides), [])
