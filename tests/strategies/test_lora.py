import pytest
import torch
from isolated import ORGANS, learn, world
from tiny import World, model
from torch import nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.strategies.lora import LoRA

X = torch.randint(-300, 300, (1, 1, 8, 8, 8), dtype=torch.int16)


def test_the_first_experience_is_naive_training() -> None:
    made, alone = world(LoRA(rank=2)), World()
    made.learn(0, steps=3)
    alone.learn(0, steps=3)
    own = made.learner.model.network.state_dict()
    assert all(torch.equal(own[name], value) for name, value in alone.weights().items())


def test_later_experiences_change_their_own_adapters_only() -> None:
    made = world(LoRA(rank=2), ("first", ("liver",)), ("second", ORGANS), ("third", ORGANS))
    made.learner.model.network.backbone.append(nn.BatchNorm3d(4))
    learn(made, 2, steps=3)
    before = made.weights()
    made.learn(1, steps=3)
    after = made.weights()
    same = {name for name in before if name.startswith(("network.", "parts.1."))}
    assert {name.split(".")[0] for name in before} == {"network", "parts", "router"}
    assert any("running_mean" in name for name in same)
    assert all(torch.equal(after[name], before[name]) for name in same)
    assert after["parts.2.layers.0.up.weight"].abs().sum() > 0


def test_old_answers_stay_to_the_bit() -> None:
    made = world(LoRA(rank=2))
    made.learn(0, steps=3)
    network = made.learner.model.eval()
    before = network.answer(0, X)
    made.learn(1, steps=3)
    assert torch.equal(network.eval().answer(0, X), before)


def test_a_new_head_begins_with_the_first_ones_rows() -> None:
    made = world(LoRA(rank=2), ("first", ("spleen",)), ("second", ORGANS))
    made.space.see(ORGANS)
    made.learn(0, steps=0)
    first = made.learner.model.network.head
    made.learn(1, steps=0)
    second = made.learner.model.parts[1].head
    assert torch.equal(second.weight[[0, 2]], first.weight)  # background and spleen
    assert torch.equal(second.bias[[0, 2]], first.bias)
    assert not torch.equal(second.weight[1], first.weight[1])


@pytest.mark.parametrize("count", [2, 5])
def test_bytes_follow_the_formula(count: int) -> None:
    """Layers 1 → 4 with 27 voxels and 4 → 4 with one; the head 4 → 3; d = 8."""
    ledger, plugin, rank = Ledger(), LoRA(rank=2), 2
    made = world(plugin, *((f"h{i}", ORGANS) for i in range(count)), bind={"ledger": ledger})
    made.space.see(ORGANS)
    learn(made, count)
    part = 4 * (rank * (27 * 1 + 4) + rank * (4 + 4) + 3 * 4 + 3)
    router = 8 * (count * 8 + 64)
    plain = model()
    plain.grow(3)
    network = sum(4 * t.numel() for t in plain.state_dict().values())
    real = sum(t.numel() * t.element_size() for t in made.learner.model.state_dict().values())
    assert real == network + (count - 1) * part + router
    assert plugin.held_bytes() == {"gpu": (count - 1) * part + router} == plugin.declared_bytes(network)
    assert ledger.held("gpu") == plugin.held_bytes()["gpu"]


@pytest.mark.parametrize("done", [1, 2])
def test_going_on_from_a_state_is_the_same(done: int) -> None:
    arrivals = [("first", ("liver",)), ("second", ORGANS), ("third", ORGANS)]
    whole = world(LoRA(rank=2), *arrivals)
    learn(whole, done, steps=2)
    half = world(LoRA(rank=2), *arrivals)
    half.load_state_dict(whole.state_dict())
    for made in (whole, half):
        made.learn(1, steps=2)
    assert whole.losses[-2:] == half.losses
    assert whole.weights().keys() == half.weights().keys()
    assert all(torch.equal(v, half.weights()[n]) for n, v in whole.weights().items())


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"rank": 1.5}, {"rank": True}, {"alpha": 0}])
def test_wrong_arguments_are_told(wrong: dict) -> None:
    with pytest.raises(LifelongCTError, match=r"rank|alpha"):
        LoRA(**wrong)
