from typing import Any

import pytest
import torch
from hospitals import options, stream
from tiny import World
from torch import Tensor

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.greedy_balanced import GreedyBalanced
from lifelong_ct.memory.selection.uniqueness import Uniqueness
from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.run_folder import RunFolder
from lifelong_ct.strategies.gdumb import GDumb
from lifelong_ct.training.options import Requires
from lifelong_ct.training.run import Run

ROOM = {"exemplar_bytes": 1 << 20}


class Batches(SupervisedPlugin):
    """Keeps the voxels that the model sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.append(strategy.mb_x.clone())


def numbers(world: World, hospital: int, batches: Batches) -> set[int]:
    """Which of a hospital's first 40 patches were trained on."""
    patches = {i: world.sources[hospital].patch(i)[0] for i in range(40)}
    seen = [x for batch in batches.seen for x in batch]
    return {i for i, patch in patches.items() if any(torch.equal(patch, x) for x in seen)}


def test_the_memory_is_filled_with_what_naive_training_sees_and_trained_on_alone() -> None:
    gdumb, batches = GDumb(GreedyBalanced()), Batches()
    world = World(gdumb, batches, accumulate=3, bind=ROOM)
    world.learn(0, steps=4)
    assert len(gdumb.memory) == 2 * 3 * 4, "patches per micro-batch × micro-batches × steps"
    assert {x.shape for x in batches.seen} == {(2, 1, 8, 8, 8)}
    assert len(batches.seen) == 3 * 4
    assert len(world.losses) == 4
    assert len(numbers(world, 0, batches)) > 8
    assert max(numbers(world, 0, batches)) < 24
    batches.seen.clear()
    world.learn(1, steps=4)
    assert len(gdumb.memory) == 48
    assert min(len(numbers(world, hospital, batches)) for hospital in (0, 1)) > 4
    assert len(batches.seen) == 3 * 4, "a step trains on as many patches as before"
    assert len(world.losses) == 8


def test_both_hospitals_have_their_share_of_the_bytes() -> None:
    gdumb = GDumb(GreedyBalanced())
    world = World(gdumb, bind={"exemplar_bytes": 20_000})
    world.learn(0, steps=20)
    full = gdumb.memory.nbytes
    assert full > 18_000
    world.learn(1, steps=20)
    held = {"first": 0, "second": 0}
    for exemplar, _ in gdumb.memory.held():
        held[exemplar.origin.hospital] += exemplar.nbytes
    assert sum(held.values()) <= 20_000
    assert all(8_000 < nbytes < 12_000 for nbytes in held.values())
    assert gdumb.held_bytes()["exemplars"] <= gdumb.declared_bytes(0)["exemplars"] == 20_000


def test_a_hospital_that_keeps_its_patches_is_trained_on_only_while_there_is_no_other() -> None:
    gdumb, batches = GDumb(GreedyBalanced()), Batches()
    sharing = {"first": "forbid", "second": "patches"}
    world = World(gdumb, batches, bind={**ROOM, "sharing": sharing})
    world.learn(0, steps=3)
    assert len(gdumb.memory) == 0
    assert numbers(world, 0, batches) == set(range(6))
    batches.seen.clear()
    world.learn(1, steps=3)
    assert {e.origin.hospital for e, _ in gdumb.memory.held()} == {"second"}
    assert not numbers(world, 0, batches)


def test_a_policy_that_asks_a_model_is_refused() -> None:
    with pytest.raises(LifelongCTError, match="embedding") as error:
        GDumb(Uniqueness())
    assert error.value.where == "strategy.plugins.selection"


def test_organs_are_told_without_a_model() -> None:
    gdumb = GDumb(GreedyBalanced(by="organ"))
    world = World(gdumb, bind=ROOM)
    world.learn(1, steps=2)
    for exemplar, parts in gdumb.memory.held():
        voxels = {"liver": int((parts["y"] == 1).sum()), "spleen": int((parts["y"] == 2).sum())}
        assert exemplar.description.organs == voxels


class Starts(SupervisedPlugin):
    """The clock and the weights before the first step of each experience."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, dict[str, Tensor]]] = []

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        clock = strategy.clock
        weights = {n: p.clone() for n, p in strategy.model.named_parameters() if n.startswith("backbone")}
        self.seen.append((clock.train_exp_counter, clock.train_iterations, weights))


def test_the_model_is_new_in_each_experience_and_the_clock_goes_on(tmp_path: Any) -> None:
    starts = Starts()
    made = stream({"name": "a"}, {"name": "b"}, {"name": "c"})
    anew = Requires(reinitialise=True, boundaries=True, resumable=False)
    opts = options(made, tmp_path, requires=anew, new_plugins=lambda: [GDumb(GreedyBalanced()), starts])
    opts.limits["exemplars"] = 1 << 20  # type: ignore[index]
    document = Run(opts, Reporters([RunFolder(opts.folder, str)])).execute()
    assert [row["steps"] for row in document["experiences"]] == [2, 2, 2]
    assert [(past, steps) for past, steps, _ in starts.seen] == [(0, 0), (1, 2), (2, 4)]
    first, *later = (weights for _, _, weights in starts.seen)
    for weights in later:
        assert all(torch.equal(first[name], weights[name]) for name in first)
