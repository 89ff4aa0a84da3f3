import copy
import json
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.training import plugins as stock
from avalanche.training.utils import ParamData
from tiny import World

from lifelong_ct.avalanche_bridge import AvalancheDataset, SupervisedPlugin
from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.avalanche_bridge.stock import adopt, decode, encode
from lifelong_ct.core.errors import CheckpointError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory import copies, rows

PATCH_BYTES = 8**3 * (2 + 1)


def agem(patterns: int = 2) -> Any:
    return stock.AGEMPlugin(patterns_per_experience=patterns, sample_size=2)


def ewc() -> Any:
    return stock.EWCPlugin(10.0, mode="online", decay_factor=0.5)


def test_our_own_plugins_stay_what_they_are() -> None:
    plugin = StrategyPlugin()
    assert adopt(plugin) is plugin


def test_every_hook_reaches_a_stock_plugin() -> None:
    calls: list[str] = []

    class Counting(SupervisedPlugin):
        pass

    hooks = [name for name in dir(SupervisedPlugin) if name.startswith(("before_", "after_"))]
    for name in hooks:
        setattr(Counting, name, lambda self, strategy, name=name, **kwargs: calls.append(name))
    World(Counting()).learn(0, steps=1)
    assert set(calls) == {name for name in hooks if "eval" not in name}
    assert len(calls) == len(set(calls))


def test_attributes_are_encoded_as_tensors_and_json_and_come_back() -> None:
    value = {
        "plain": [1, 2.5, None, "x", True],
        "numbered": defaultdict(dict, {3: {"w": ParamData("w", init_tensor=torch.arange(4.0).view(2, 2))}}),
        "nested": {"t": torch.tensor([1, 2])},
    }
    encoded = encode(value)
    json.dumps(encoded, default=lambda leaf: "tensor" if isinstance(leaf, torch.Tensor) else 1 / 0)
    back = decode(encoded)
    assert back["plain"] == value["plain"]
    assert back["numbered"][99] == {}, "still a defaultdict"
    restored = back["numbered"][3]["w"]
    assert (type(restored), restored.name, restored.shape) == (ParamData, "w", (2, 2))
    assert torch.equal(restored.expand((3, 2))[:2], torch.arange(4.0).view(2, 2))
    assert torch.equal(back["nested"]["t"], torch.tensor([1, 2]))
    assert value["numbered"][3]["w"].shape == (2, 2), "the original is untouched"  # type: ignore[index]


def test_what_cannot_be_saved_is_listed() -> None:
    class Mine(SupervisedPlugin):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.rng = torch.ones(1), object()

    world = World(Mine())
    assert world.plugins[0].lost_on_resume() == ["rng"]  # type: ignore[attr-defined]
    assert list(world.plugins[0].state_dict()) == ["weight"]


def test_what_a_stock_plugin_holds_is_on_the_ledger() -> None:
    world = World(ewc())
    world.learn(0)
    parameters = 4 * sum(p.numel() for p in world.learner.model.parameters())
    assert world.ledger.holders("gpu") == {"EWCPlugin": 2 * parameters}
    world.learn(1)
    parameters = 4 * sum(p.numel() for p in world.learner.model.parameters())
    assert world.ledger.holders("gpu") == {"EWCPlugin": 2 * parameters}


def kept(plugin: Any) -> list[tuple[torch.Tensor, str]]:
    """Patches in the state of a plugin, and whose they are."""
    found = list(rows.states(plugin.state_dict(), copies.KIND))
    return [pair for own in found for pair in zip(own["tensors"]["x"], own["patients"], strict=True)]


@pytest.mark.parametrize("make", [agem, lambda: stock.ReplayPlugin(mem_size=4)])
class TestCopies:
    def test_they_know_whose_they_are(self, make: Any) -> None:
        world = World(make(), items=5)
        world.learn(0)
        world.learn(1)
        assert len(kept(world.plugins[0])) == 4
        for x, patient in kept(world.plugins[0]):
            hospital, item = map(int, patient.removeprefix("patient ").split("-"))
            assert torch.equal(x, world.sources[hospital].patch(item)[0])

    def test_each_byte_is_told_once(self, make: Any) -> None:
        world = World(make())
        world.learn(0)
        assert world.plugins[0].held_bytes() == {"exemplars": 2 * PATCH_BYTES}
        assert world.ledger.held("ram") == 2 * PATCH_BYTES, "where it lies the ledger knows"

    def test_what_nobody_tells_of_has_no_patient(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tiny.attributed", lambda dataset: AvalancheDataset([dataset]))
        world = World(make())
        world.learn(0)
        assert [patient for _, patient in kept(world.plugins[0])] == ["", ""]
        assert copies.unattributed([world.plugins[0].state_dict()]) == 2

    def test_a_run_goes_on_without_those_who_withdrew(self, make: Any) -> None:
        world = World(make())
        world.learn(0)
        state = copy.deepcopy(world.state_dict())
        for own in rows.states(state["plugins"], copies.KIND):
            assert copies.without(own, {"patient 0-0", "patient 0-1"}) == 2
        resumed = World(make())
        resumed.load_state_dict(state)
        resumed.learn(1)
        assert {patient for _, patient in kept(resumed.plugins[0])} == {"patient 1-0", "patient 1-1"}
        assert resumed.plugins[0].held_bytes() == {"exemplars": 2 * PATCH_BYTES}

    def test_a_state_that_does_not_tell_is_refused(self, make: Any) -> None:
        world = World(make())
        x, y = torch.zeros(2, 1, 8, 8, 8, dtype=torch.int16), torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)
        old = {"buffers": [[x, y]], "groups": [[0, x, y, torch.ones(2)]], "experiences": 1}
        with pytest.raises(CheckpointError, match="does not tell whose"):
            world.plugins[0].load_state_dict(old)


class TestAGEM:
    def test_its_memory_is_a_copy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World(agem(), items=3)
        world.learn(0)

        def gone(i: int) -> None:
            raise OSError("the hospital is not there any more")

        monkeypatch.setattr(world.sources[0], "patch", gone)
        x, y = world.plugins[0].state_dict()["buffers"][0]["tensors"].values()
        assert (x.shape, y.shape, x.dtype) == ((2, 1, 8, 8, 8), (2, 1, 8, 8, 8), torch.int16)
        world.learn(1)

    def test_its_bytes_are_declared_admitted_and_told(self) -> None:
        world = World(agem())
        assert world.plugins[0].declared_bytes(0) == {"ram": 4 * PATCH_BYTES, "exemplars": 4 * PATCH_BYTES}
        two = World(agem(), bind={"channels": 2})
        assert two.plugins[0].declared_bytes(0)["ram"] == 4 * PATCH_BYTES * 5 // 3  # 2 × 2 + 1 for 2 + 1
        for experience in (0, 1):
            world.learn(experience)
            held = 2 * (experience + 1) * PATCH_BYTES
            assert world.ledger.holders("exemplars") == {"A-GEM memory": held}
            assert world.plugins[0].held_bytes()["exemplars"] == held == world.ledger.peak_used("ram")

    def test_a_limit_is_kept(self) -> None:
        world = World(agem(), bind={"ledger": Ledger({"exemplars": 3 * PATCH_BYTES})})
        world.learn(0)
        with pytest.raises(LimitExceeded, match="A-GEM"):
            world.learn(1)

    def test_a_hospital_that_shares_no_patches_is_not_kept(self) -> None:
        world = World(agem(), bind={"sharing": {"first": "forbid", "second": "patches"}})
        assert world.plugins[0].declared_bytes(0)["ram"] == 2 * PATCH_BYTES
        world.learn(0)
        assert world.plugins[0].state_dict() == {"buffers": []}
        world.learn(1)
        assert len(world.plugins[0].state_dict()["buffers"]) == 1


def test_a_loaded_state_follows_the_model_to_its_device() -> None:
    first, second = World(ewc()), World(ewc())
    first.learn(0)
    second.plugins[0].load_state_dict(first.plugins[0].state_dict())
    second.plugins[0].before_training_exp(SimpleNamespace(device=torch.device("meta")))
    moved = second.plugins[0].plugin.importances[0].values()  # type: ignore[attr-defined]
    assert {(value.data.device.type, value.device.type) for value in moved} == {("meta", "meta")}


class TestReplay:
    def test_its_memory_is_a_copy_of_an_equal_share_of_each_hospital(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = World(stock.ReplayPlugin(mem_size=2), items=3)
        world.learn(0)

        def gone(i: int) -> None:
            raise OSError("the hospital is not there any more")

        monkeypatch.setattr(world.sources[0], "patch", gone)
        world.learn(1)
        for key, own in world.plugins[0].state_dict()["groups"]:
            source, (x, y, weights) = world.sources[key], own["tensors"].values()
            assert (x.shape, y.shape, x.dtype, len(weights)) == (
                (1, 1, 8, 8, 8),
                (1, 1, 8, 8, 8),
                torch.int16,
                1,
            )
            if key == 1:
                assert any(torch.equal(x[0], source.patch(i)[0]) for i in range(3))

    def test_earlier_patches_join_the_batch_before_it_is_augmented(self) -> None:
        sizes: list[int] = []

        class Watch(StrategyPlugin):
            def after_forward(self, strategy: Any, **kwargs: Any) -> None:
                sizes.append(len(strategy.mb_x))

        world = World(stock.ReplayPlugin(mem_size=2, batch_size_mem=3), Watch())
        world.learn(0)
        world.learn(1)
        assert sizes == [2, 2, 5, 5]

    def test_its_bytes_are_declared_admitted_and_told(self) -> None:
        world = World(stock.ReplayPlugin(mem_size=3))
        assert world.plugins[0].declared_bytes(0) == {"ram": 3 * PATCH_BYTES, "exemplars": 3 * PATCH_BYTES}
        for experience, kept in ((0, 2), (1, 3)):  # two patches per hospital
            world.learn(experience)
            assert world.plugins[0].held_bytes()["exemplars"] == kept * PATCH_BYTES
            assert world.ledger.holders("exemplars") == {"stock replay memory": kept * PATCH_BYTES}

    def test_fewer_patches_than_hospitals(self) -> None:
        world = World(stock.ReplayPlugin(mem_size=1))
        world.learn(0)
        (first,) = kept(world.plugins[0])
        world.learn(1)
        (second,) = kept(world.plugins[0])
        assert first[1] == second[1]
        resumed = World(stock.ReplayPlugin(mem_size=1))
        resumed.load_state_dict(world.state_dict())
        assert kept(resumed.plugins[0])[0][1] == first[1]

    def test_a_limit_is_kept_and_a_hospital_that_shares_no_patches_is_not(self) -> None:
        world = World(stock.ReplayPlugin(mem_size=3), bind={"ledger": Ledger({"exemplars": PATCH_BYTES})})
        with pytest.raises(LimitExceeded, match="stock replay"):
            world.learn(0)
        private = World(stock.ReplayPlugin(mem_size=3), bind={"sharing": {"first": "features"}})
        private.learn(0)
        assert private.plugins[0].held_bytes() == {"exemplars": 0}
