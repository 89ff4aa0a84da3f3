"""Replay with every policy that there is: it learns, stays inside its bytes, and goes on from its state as before."""

import copy
from typing import Any

import pytest
import torch
from tiny import World

from lifelong_ct.cli import compose
from lifelong_ct.cli.conf import options
from lifelong_ct.cli.instantiate import build
from lifelong_ct.strategies.replay import Replay

BUDGET = 9_000


def world(choice: str) -> tuple[World, Replay]:
    config: Any = compose.plain(compose.compose(compose.Request([f"selection={choice}"])))
    replay = Replay(build(config["selection"], "selection"), exemplars_per_batch=1)
    return World(replay, bind={"exemplar_bytes": BUDGET}, accumulate=2), replay


@pytest.mark.parametrize("choice", options()["selection"])
def test_it_resumes_to_the_same_weights(choice: str) -> None:
    whole, replay = world(choice)
    whole.learn(0, 5)
    state = copy.deepcopy(whole.state_dict())
    whole.learn(1, 5)
    resumed, other = world(choice)
    resumed.load_state_dict(state)
    resumed.learn(1, 5)
    assert all(torch.equal(a, b) for a, b in zip(whole.weights().values(), resumed.weights().values()))
    assert [e.id for e, _ in replay.memory.held()] == [e.id for e, _ in other.memory.held()]
    assert BUDGET / 2 < replay.memory.nbytes <= BUDGET
    needs = replay.describer.needs
    for exemplar, _ in replay.memory.held():
        told = exemplar.description
        assert ("organs" in needs) == bool(told.organs)
        assert ("gradient" in needs) == ("gradient" in told.vectors)
        assert ("embedding" in needs) == ("embedding" in told.vectors)
        assert needs & {"loss", "uncertainty"} <= set(told.scores)
