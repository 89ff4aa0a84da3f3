"""The state of training between two steps of an experience.

It lies on top of the state at the end of the experience before. A run that goes on from it begins the experience anew from
there, with all hooks before the first step, which finds again whatever follows from that (frozen layers, taps, what the first
patches were like); then what has changed since is put back.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.training.learner import Learner
from lifelong_ct.training.stepping import load


def why_not(plugins: Sequence[StrategyPlugin]) -> str | None:
    """Which plugins do not tell what changes in them from step to step; None where all do."""
    silent = [plugin for plugin in plugins if plugin.state_within() is None]
    names = [type(getattr(plugin, "plugin", plugin)).__name__ for plugin in silent]
    return ", ".join(names) or None


def state(learner: Learner, plugins: Sequence[StrategyPlugin]) -> dict[str, Any]:
    """Between two steps of an experience: learner, plugins, random generators."""
    return {
        "learner": learner.state_dict(),
        "strategy": [plugin.state_within() for plugin in plugins],
        "generators": generators(learner.device),
    }


def put_back(state: Mapping[str, Any], learner: Learner, plugins: Sequence[StrategyPlugin]) -> None:
    """Restores `state` in an experience that has begun and made no step."""
    own = state["learner"]
    learner.model.load_state_dict(own["model"])
    load(learner.optimizer, own["optimizer"])
    _lay_out(learner.optimizer)
    learner.scaler.load_state_dict(own["scaler"])
    learner.clock.__dict__.update(own["clock"])
    learner.at_once = own["at_once"]
    for plugin, mine in zip(plugins, state["strategy"], strict=True):
        plugin.load_state_within(mine, learner)
    set_generators(state["generators"], learner.device)


def generators(device: torch.device) -> dict[str, Any]:
    """States of the global generators of Python, NumPy and torch, as tensors and JSON values."""
    version, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002 - stock plugins draw from it
    inner: dict[str, Any] = numpy["state"]
    return {
        "python": [version, list(words), gauss],
        "numpy": {**numpy, "state": {**inner, "key": torch.from_numpy(inner["key"].astype(np.int64))}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_generators(state: Mapping[str, Any], device: torch.device) -> None:
    """Restores `generators`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    inner = {**state["numpy"]["state"], "key": state["numpy"]["state"]["key"].numpy().astype(np.uint32)}
    np.random.set_state({**state["numpy"], "state": inner})  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Moments in the order of voxel axes of their weights, as the optimizer makes them: a checkpoint knows no strides."""
    for parameter, own in optimizer.state.items():
        for name, value in own.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                own[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
