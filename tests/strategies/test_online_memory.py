from typing import Any

import numpy as np
import pytest
import torch
from tiny import World
from torch import Tensor

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection import Description
from lifelong_ct.memory.selection.herding import Herding
from lifelong_ct.memory.selection.recent import Recent
from lifelong_ct.memory.selection.selective import Selective
from lifelong_ct.memory.selection.uniqueness import Uniqueness
from lifelong_ct.strategies.online_memory import OnlineMemory, renewed

ROOM = {"exemplar_bytes": 1 << 20}
POLICIES = [Recent, Uniqueness, Selective]


class Batches(SupervisedPlugin):
    """Keeps the micro-batches that the model sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor]] = []

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.append((strategy.mb_x.clone(), strategy.mb_y.clone()))


def number(world: World, x: Tensor) -> tuple[int, int]:
    """Hospital and number of a patch."""
    (found,) = [(h, i) for h in (0, 1) for i in range(40) if torch.equal(world.sources[h].patch(i)[0], x)]
    return found


@pytest.mark.parametrize("policy", POLICIES)
def test_each_batch_has_the_arrivals_and_patches_of_the_memory_of_any_hospital(policy: Any) -> None:
    online, batches = OnlineMemory(policy(), exemplars_per_batch=3), Batches()
    world = World(online, batches, boundaries=False, bind=ROOM)
    for hospital in (0, 1):
        world.learn(hospital, steps=6)
    assert len(batches.seen[0][0]) == 2, "nothing is held yet"
    drawn = []
    for turn, (x, y) in enumerate(batches.seen[1:], start=1):
        hospital, step = divmod(turn, 6)
        assert x.shape == y.shape == (5, 1, 8, 8, 8)
        assert [number(world, patch) for patch in x[:2]] == [(hospital, 2 * step), (hospital, 2 * step + 1)]
        drawn = [number(world, patch) for patch in x[2:]]
        arrived = {(h, i) for h in (0, 1) for i in range(12) if (h, i // 2) < (hospital, step)}
        assert set(drawn) <= arrived
    held = [number(world, parts["x"]) for _, parts in online.memory.held()]
    assert sorted(held) == [(h, i) for h in (0, 1) for i in range(12)]


def test_linear_memory_holds_the_end_of_the_stream() -> None:
    online = OnlineMemory(Recent())
    world = World(online, bind={"exemplar_bytes": 8000})
    for hospital in (0, 1):
        world.learn(hospital, steps=8)
    held = [number(world, parts["x"]) for _, parts in online.memory.held()]
    stream = [(h, i) for h in (0, 1) for i in range(16)]
    assert 1 < len(held) < 16
    assert held == stream[-len(held) :]


def test_what_is_trained_on_is_judged_anew() -> None:
    """With γ = 0 the description of an exemplar is that of its last pass, with γ = 1 that of its first."""
    found = {}
    for smoothing in (0.0, 1.0):
        online = OnlineMemory(Selective(), exemplars_per_batch=8, smoothing=smoothing)
        world = World(online, bind=ROOM)
        world.learn(0, steps=2)
        before = {e.id: e.description for e, _ in online.memory.held()}
        world.learn(1, steps=6)
        after = {e.id: e.description for e, _ in online.memory.held()}
        found[smoothing] = sum(
            after[name].scores["uncertainty"] != said.scores["uncertainty"] for name, said in before.items()
        )
        assert all(after[name].scores["offered"] == said.scores["offered"] for name, said in before.items())
    assert found[0.0] == len(before) == 4
    assert found[1.0] == 0


def test_a_description_moves_by_the_average_of_numbers_directions_and_lengths() -> None:
    """γ = 0.75. From (4, 0) to (0, 8): direction (3, 1) / √10, length 3 + 2."""
    old = Description({"liver": 3}, {"uncertainty": 0.8, "offered": 7.0}, {"embedding": np.float32([4, 0])})
    new = Description({"liver": 9}, {"uncertainty": 0.4, "offered": 9.0}, {"embedding": np.float32([0, 8])})
    found = renewed(old, new, keep=0.75)
    assert found.organs == {"liver": 3}
    assert found.scores == pytest.approx({"uncertainty": 0.7, "offered": 7.0})
    expected = np.array([3, 1]) / np.sqrt(10) * 5
    assert found.vectors["embedding"] == pytest.approx(expected, rel=1e-6)
    assert found.vectors["embedding"].dtype == np.float32
    wider = Description({}, new.scores, {"embedding": np.float32([1, 2, 3])})
    assert renewed(old, wider, 0.75).vectors["embedding"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_hospital_that_keeps_its_patches_leaves_none_and_is_trained_on(policy: Any) -> None:
    online, batches = OnlineMemory(policy()), Batches()
    sharing = {"first": "features", "second": "patches"}
    world = World(online, batches, bind={**ROOM, "sharing": sharing})
    world.learn(0, steps=3)
    assert len(online.memory) == 0
    assert [len(x) for x, _ in batches.seen] == [2, 2, 2]
    world.learn(1, steps=3)
    assert {e.origin.hospital for e, _ in online.memory.held()} == {"second"}


@pytest.mark.parametrize("policy", POLICIES)
def test_bytes_stay_inside_the_budget_and_a_resumed_run_goes_on(policy: Any) -> None:
    bind = {"exemplar_bytes": 12_000}
    whole, first, second = (World(OnlineMemory(policy(), 2), bind=bind) for _ in range(3))
    for world in (whole, first):
        world.learn(0, steps=8)
    second.load_state_dict(first.state_dict())
    for world in (whole, second):
        world.learn(1, steps=8)
        (online,) = world.plugins
        assert 6_000 < online.held_bytes()["exemplars"] <= online.declared_bytes(0)["exemplars"] == 12_000
    for name, value in whole.weights().items():
        assert torch.equal(value, second.weights()[name]), name


@pytest.mark.parametrize("wrong", [{"smoothing": 1.5}, {"smoothing": -0.1}, {"exemplars_per_batch": 0}])
def test_wrong_options(wrong: dict[str, float]) -> None:
    with pytest.raises(LifelongCTError, match=next(iter(wrong))):
        OnlineMemory(Recent(), **wrong)  # type: ignore[arg-type]


def test_a_policy_that_asks_for_the_mean_of_the_stream_is_refused() -> None:
    with pytest.raises(LifelongCTError, match="mean") as error:
        OnlineMemory(Herding())
    assert error.value.where == "strategy.plugins.selection"
