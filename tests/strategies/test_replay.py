from typing import Any

import numpy as np
import pytest
import torch
from tiny import HOSPITALS, World

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory.exemplars import ExemplarMemory, Origin
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.strategies.replay import Replay, coarse
from lifelong_ct.training.augment import Augment


class Batches(SupervisedPlugin):
    """Keeps the micro-batches that the model sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.append((strategy.mb_x.clone(), strategy.mb_y.clone()))


def of(world: World, hospital: int, patch: torch.Tensor, count: int = 40) -> bool:
    return any(torch.equal(world.sources[hospital].patch(i)[0], patch) for i in range(count))


def test_batches_get_exemplars_of_earlier_hospitals_only() -> None:
    replay, batches = Replay(Reservoir(), exemplars_per_batch=3), Batches()
    world = World(replay, batches)
    world.learn(0, steps=6)
    assert {len(x) for x, _ in batches.seen} == {2}, "nothing is replayed in the first hospital"
    batches.seen.clear()
    world.learn(1, steps=6)
    for x, y in batches.seen:
        assert (x.shape, y.shape, x.dtype) == ((5, 1, 8, 8, 8), (5, 1, 8, 8, 8), torch.int16)
        assert all(of(world, 1, patch) for patch in x[:2])
        assert all(of(world, 0, patch) for patch in x[2:])


def test_exemplars_keep_the_codes_that_they_were_stored_with() -> None:
    replay, batches = Replay(Reservoir(), exemplars_per_batch=1), Batches()
    world = World(replay, batches)
    world.learn(0, steps=6)
    world.learn(1, steps=1)
    x, y = batches.seen[-1]
    patches = [world.sources[0].patch(i) for i in range(12)]
    (codes,) = [codes for voxels, codes, _ in patches if torch.equal(voxels, x[2])]
    assert torch.equal(y[2], codes)
    assert 0 not in y[2], "the first hospital never called the spleen background"


@pytest.mark.parametrize("sharing", ["forbid", "features"])
def test_a_hospital_that_shares_no_patches_leaves_none(sharing: str) -> None:
    replay = Replay(Reservoir())
    world = World(replay, bind={"sharing": {"first": sharing, "second": "patches"}})
    world.learn(0, steps=4)
    assert len(replay.memory) == 0
    world.learn(1, steps=4)
    assert len(replay.memory) > 0


def test_a_hospital_that_nobody_asked_shares_nothing() -> None:
    replay = Replay(Reservoir())
    World(replay, bind={"sharing": {}}).learn(0, steps=2)
    assert len(replay.memory) == 0


def test_what_is_stored_is_not_augmented_and_what_is_replayed_is() -> None:
    replay, batches = Replay(Reservoir(), exemplars_per_batch=1), Batches()
    world = World(replay, batches, augment=Augment(noise=20.0))
    world.learn(0, steps=4)
    assert of(world, 0, replay.memory.sample(1, np.random.default_rng(0))["x"][0])
    world.learn(1, steps=1)
    assert not of(world, 0, batches.seen[-1][0][2])


def test_wide_codes_of_the_present_and_narrow_ones_of_the_past_mix() -> None:
    replay, batches = Replay(Reservoir()), Batches()
    world = World(replay, batches)
    world.learn(0, steps=3)
    for lut in range(len(world.sources[1].luts)):
        world.sources[1].luts[lut] = world.sources[1].luts[lut].astype("uint16")
    world.learn(1, steps=1)
    x, y = batches.seen[-1]
    assert y.dtype == torch.uint16
    assert len(x) == len(y) == 4


def test_offers_come_every_so_many_steps() -> None:
    every, third = Replay(Reservoir()), Replay(Reservoir(), offer_every=3)
    budget = {"exemplar_bytes": 1 << 20}
    World(every, bind=budget).learn(0, steps=6)
    World(third, bind=budget).learn(0, steps=6)
    assert (len(every.memory), len(third.memory)) == (12, 4)


def test_bytes_stay_inside_the_budget_and_on_the_ledger() -> None:
    budget, ledger = 4000, Ledger({"exemplars": 4000, "ram": 10_000})
    replay = Replay(Reservoir())
    world = World(replay, bind={"exemplar_bytes": budget, "ledger": ledger})
    for experience in (0, 1):
        world.learn(experience, steps=10)
        assert 0 < replay.memory.nbytes <= budget
    assert ledger.held("exemplars") == ledger.held("ram") == budget
    assert 0 < ledger.peak_used("exemplars") <= budget
    assert replay.held_bytes()["exemplars"] <= replay.declared_bytes(0)["exemplars"] == budget
    assert world.learner.clock.train_exp_counter == len(HOSPITALS)


def test_without_boundaries_all_that_is_held_is_replayed_from_the_first_hospital_on() -> None:
    replay, batches = Replay(Reservoir(), exemplars_per_batch=3), Batches()
    world = World(replay, batches, boundaries=False, bind={"exemplar_bytes": 1 << 20})
    world.learn(0, steps=6)
    assert [len(x) for x, _ in batches.seen] == [2, *[5] * 5], "a batch is not replayed beside itself"
    for step, (x, _) in enumerate(batches.seen):
        arrived = [world.sources[0].patch(i)[0] for i in range(2 * step)]
        assert all(any(torch.equal(patch, one) for one in arrived) for patch in x[2:])
    batches.seen.clear()
    world.learn(1, steps=8)
    replayed = [patch for x, _ in batches.seen for patch in x[2:]]
    assert any(of(world, 1, patch) for patch in replayed)
    assert any(of(world, 0, patch) for patch in replayed)


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: value} for name in ("exemplars_per_batch", "offer_every") for value in (0, 1.5, True)),
        {"precision": 2.5},
        {"window": 5},
        {"window": ["a", "b"]},
    ],
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(LifelongCTError, match=next(iter(wrong))):
        Replay(Reservoir(), **wrong)


def test_no_room_is_told_before_the_run() -> None:
    with pytest.raises(LifelongCTError) as error:
        World(Replay(Reservoir()), bind={"exemplar_bytes": 0})
    assert error.value.where == "memory.exemplars"
    with pytest.raises(LimitExceeded):
        World(Replay(Reservoir()), bind={"exemplar_bytes": 101, "ledger": Ledger({"ram": 100})})


def test_exemplars_are_cut_to_the_window_and_rounded_to_the_precision() -> None:
    x = torch.tensor([-1024, -175, -13, -12, 0, 3, 4, 12, 250, 3000], dtype=torch.int16)
    kept = coarse(x, window=(-175, 250), precision=8)
    assert kept.dtype == torch.int16
    assert kept.tolist() == [-176, -176, -16, -16, 0, 0, 0, 16, 248, 248]  # ties go to the even multiple
    assert torch.equal(coarse(x, window=None, precision=1), x)


def test_coarse_exemplars_take_fewer_bytes_and_keep_their_labels() -> None:
    fine, rough = Replay(Reservoir()), Replay(Reservoir(), precision=16)
    for replay in (fine, rough):
        World(replay, bind={"exemplar_bytes": 1 << 20}).learn(0, steps=4)
    assert len(fine.memory) == len(rough.memory)
    assert rough.memory.nbytes < fine.memory.nbytes
    x, y = rough.memory.sample(1, np.random.default_rng(0)).values()
    assert (x % 16 == 0).all()
    assert any(torch.equal(y[0], fine_y) for fine_y in _labels(fine))


def _labels(replay: Replay) -> list[torch.Tensor]:
    return [parts["y"] for _, parts in replay.memory.held()]


@pytest.mark.parametrize("wrong", [{"precision": 0}, {"window": [250, -175]}, {"window": [1]}])
def test_a_window_or_precision_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(LifelongCTError, match=next(iter(wrong))):
        Replay(Reservoir(), **wrong)


def test_a_budget_below_any_patch_fails_before_training() -> None:
    """8³ voxels of one value, the smallest that a patch can be, are offered to a memory of just their size."""
    x, y = torch.zeros(1, 8, 8, 8, dtype=torch.int16), torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    memory = ExemplarMemory(1 << 20, Reservoir(), Ledger(), 0, {"first": "patches"})
    memory.offer({"x": x, "y": y}, Origin("first", "a"))
    with pytest.raises(LimitExceeded, match=f"at least {memory.nbytes} bytes") as error:
        World(Replay(Reservoir()), bind={"exemplar_bytes": memory.nbytes - 1})
    assert error.value.where == "memory.exemplars"
    World(Replay(Reservoir()), bind={"exemplar_bytes": memory.nbytes})


def test_an_exemplar_knows_the_corner_of_its_patch() -> None:
    replay = Replay(Reservoir(), exemplars_per_batch=1)
    World(replay).learn(0, steps=6)
    held = list(replay.memory.held())
    assert held
    for exemplar, _ in held:
        i = int(exemplar.origin.case.rpartition("-")[2])
        assert exemplar.origin.corner == (i, 10 * i, -i)
