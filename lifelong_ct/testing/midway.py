"""What a strategy tells of itself between two steps of an experience is enough to go on from there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.testing.world import TinyWorld
from lifelong_ct.training import checkpoint, midway

STEPS = 4
POINTS = ((0, 1), (1, 3))
"""Hospital, and steps of it, where training stops."""


def check_midway(
    name: str, plugins: Callable[[], Sequence[SupervisedPlugin]], boundaries: bool = True
) -> None:
    """Two tiny hospitals, stopped in the middle of either one and gone on with by fresh objects: weights and state are those
    of training that nobody stopped. Nothing is asked of plugins that tell no state (`state_within`).

    Args:
        name: for messages.
        plugins: makes them.
        boundaries: whether they hear where a hospital ends.

    Raises:
        AssertionError: with what is different.
    """
    whole = TinyWorld(plugins, 2, boundaries=boundaries)
    if midway.why_not(whole.plugins) is not None:
        return
    ends = [_state(whole)]
    within: dict[tuple[int, int], dict[str, Any]] = {}

    def note(hospital: int, step: int) -> None:
        if (hospital, step) in POINTS:
            within[hospital, step] = _stored(_within(whole))

    for hospital in (0, 1):
        whole.learner.between_steps = partial(note, hospital)
        whole.learn(hospital, STEPS)
        ends.append(_state(whole))
    for hospital, step in POINTS:
        found = _gone_on(TinyWorld(plugins, 2, boundaries=boundaries), ends, within, hospital, step)
        different = list(_differences(found, ends[-1]))
        assert not different, (
            f"{name} learns otherwise where it was stopped after step {step} of hospital {hospital + 1}: "
            f"{', '.join(different[:5])}; tell in `state_within` what changes from step to step"
        )


def _gone_on(
    world: TinyWorld,
    ends: Sequence[dict[str, Any]],
    within: dict[tuple[int, int], dict[str, Any]],
    hospital: int,
    step: int,
) -> dict[str, Any]:
    if hospital:
        _load(world, ends[hospital])

    def begin() -> int:
        state = within[hospital, step]
        world.space.load_state_dict(state["space"])
        midway.put_back(state, world.learner, world.plugins)
        return step

    world.learn(hospital, STEPS, begin)
    for later in range(hospital + 1, 2):
        world.learn(later, STEPS)
    return _state(world)


def _within(world: TinyWorld) -> dict[str, Any]:
    return {"space": world.space.state_dict(), **midway.state(world.learner, world.plugins)}


def _state(world: TinyWorld) -> dict[str, Any]:
    state = {
        "space": world.space.state_dict(),
        "learner": world.learner.state_dict(),
        "strategy": [plugin.state_dict() for plugin in world.plugins],
    }
    return _stored(state)


def _load(world: TinyWorld, state: dict[str, Any]) -> None:
    world.space.load_state_dict(state["space"])
    for plugin, own in zip(world.plugins, state["strategy"], strict=True):
        plugin.load_state_dict(own)
    world.learner.load_state_dict(state["learner"])


def _stored(state: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from a disk."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder) / "state", state)
        return checkpoint.load(Path(folder) / "state")


def _differences(one: Any, other: Any, where: str = "") -> Any:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key, value in one.items():
            yield from _differences(value, other[key], f"{where}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, value in enumerate(one):
            yield from _differences(value, other[i], f"{where}/{i}")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if not torch.equal(one, other):
            yield where
    elif one != other:
        yield where
