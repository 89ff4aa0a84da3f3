from typing import Any

import pytest
import torch
from isolated import ORGANS, learn, world
from tiny import World, model

from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.models.restoring import fitted
from lifelong_ct.strategies.independent import Independent
from lifelong_ct.strategies.isolation import Isolation
from lifelong_ct.strategies.lora import LoRA
from lifelong_ct.strategies.lwf import LwF

X = torch.randint(-300, 300, (1, 1, 8, 8, 8), dtype=torch.int16)


def test_every_part_is_what_a_run_on_its_hospital_alone_makes() -> None:
    made = world(Independent(), ("first", ("liver",)), ("second", ORGANS))
    learn(made, 2, steps=3)
    for i in (0, 1):
        alone = World()
        alone.learn(i, steps=3)
        own = made.learner.model.parts[i].values()
        assert own.keys() == alone.weights().keys()
        assert all(torch.equal(own[name], value) for name, value in alone.weights().items())


def test_earlier_parts_stay_to_the_bit() -> None:
    made = world(Independent())
    learn(made, 1, steps=3)
    before = {n: v.clone() for n, v in made.learner.model.parts[0].values().items()}
    made.learn(1, steps=3)
    assert all(torch.equal(v, before[n]) for n, v in made.learner.model.parts[0].values().items())
    assert not torch.equal(made.learner.model.parts[1].get("backbone.0.weight"), before["backbone.0.weight"])


def test_a_part_knows_the_organs_of_its_experience() -> None:
    made = world(Independent(), ("first", ("liver",)), ("second", ("spleen",)))
    learn(made, 2)
    assert [each.channels for each in made.learner.model.learnt] == [(0, 1), (0, 2)]
    assert made.learner.model.eval()(X).shape[1] == 3


@pytest.mark.parametrize("count", [2, 5])
def test_bytes_follow_the_formula(count: int) -> None:
    """All organs in every experience: N networks and the router, d = 2 · 4."""
    ledger = Ledger()
    plugin = Independent()
    arrivals = [(f"h{i}", ORGANS) for i in range(count)]
    made = world(plugin, *arrivals, bind={"ledger": ledger})
    made.space.see(ORGANS)
    learn(made, count)
    plain = model()
    plain.grow(3)
    network = sum(4 * t.numel() for t in plain.state_dict().values())
    router = 8 * (count * 8 + 64)
    real = sum(t.numel() * t.element_size() for t in made.learner.model.state_dict().values())
    assert real == count * network + router
    assert plugin.held_bytes() == {"gpu": (count - 1) * network + router} == plugin.declared_bytes(network)
    assert ledger.held("gpu") == ledger.peak_used("gpu") == plugin.held_bytes()["gpu"]


@pytest.mark.parametrize("plugin", [Independent, LoRA])
def test_growth_is_refused_before_anything_is_built_where_the_limit_is_passed(plugin: Any) -> None:
    built = []
    made = world(
        plugin(), bind={"ledger": Ledger({"gpu": 800}), "new_model": lambda: built.append(1) or model()}
    )
    made.learn(0)
    before, structure = made.weights(), made.learner.model.structure()
    built.clear()
    with pytest.raises(LimitExceeded, match=f"{plugin.__name__} (networks|adapters)"):
        made.learn(1)
    assert not built
    assert made.learner.model.structure() == structure
    assert before.keys() == made.weights().keys()


def test_of_a_hospital_that_forbids_it_the_router_learns_nothing_and_its_part_stays() -> None:
    plugin, sharing = Independent(), {"first": "features", "second": "forbid", "third": "patches"}
    arrivals = [("first", ("liver",)), ("second", ORGANS), ("third", ("liver",))]
    made = world(plugin, *arrivals, bind={"sharing": sharing})
    learn(made, 1)
    before = {name: value.clone() for name, value in made.learner.model.router.state_dict().items()}
    made.learn(1)
    network = made.learner.model
    assert all(torch.equal(value, before[name]) for name, value in network.router.state_dict().items())
    made.learn(1)
    assert network.router.known == 2
    assert plugin.router_bytes() == 8 * (2 * 8 + 64)
    for hospital in (None, "first", "third"):
        assert network.route(X[0], hospital)[-1] == 1
    assert set(network.owners(network.route(X[0]))) == {network.route(X[0])[0], 1}, "its organ is asked of it"
    assert network.route(X[0], "second")[0] == 1
    again = fitted(model(), network.structure(), network.state_dict())
    again.load_state_dict(network.state_dict())
    assert again.route(X[0]) == network.route(X[0])


def test_where_every_hospital_forbids_it_there_is_no_router() -> None:
    plugin = Independent()
    made = world(plugin, bind={"sharing": {"first": "forbid"}})  # who is not named shares nothing
    learn(made, 2)
    assert made.learner.model.router is None
    assert plugin.router_bytes() == 0
    assert made.learner.model.route(X[0]) == (1, 0)


def test_a_fresh_network_leaves_the_draws_of_the_runs_device_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network is seeded on every device (`torch.manual_seed`)."""
    forked = []
    plugin, fork = Independent(), torch.random.fork_rng
    world(plugin)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: forked.append(devices) or fork(devices=[]))
    for device in ("cpu", "cuda:1"):
        state = torch.get_rng_state()
        plugin._fresh(torch.device(device))
        assert torch.equal(torch.get_rng_state(), state)
    assert forked == [[], [torch.device("cuda:1")]]


@pytest.mark.parametrize("done", [1, 2])
@pytest.mark.parametrize("options", [{}, {"reset_optimizer": False}])
def test_going_on_from_a_state_is_the_same(done: int, options: dict) -> None:
    arrivals = [("first", ("liver",)), ("second", ORGANS), ("third", ORGANS)]
    whole = world(Independent(), *arrivals, **options)
    learn(whole, done, steps=2)
    half = world(Independent(), *arrivals, **options)
    half.load_state_dict(whole.state_dict())
    for made in (whole, half):
        made.learn(1, steps=2)
    assert whole.losses[-2:] == half.losses
    assert whole.weights().keys() == half.weights().keys()
    assert all(torch.equal(v, half.weights()[n]) for n, v in whole.weights().items())
    assert whole.plugins[0].held_bytes() == half.plugins[0].held_bytes()


def test_checkpoints_hold_no_moments_of_finished_parts() -> None:
    made = world(Independent())
    learn(made, 2)
    assert made.learner.state_dict()["optimizer"]["state"] == {}


def test_cases_that_are_closed_cannot_be_looked_at_and_this_is_told_before_it_trains() -> None:
    made = world(Independent())
    made.sources[0].total = 4  # as a loader of one pass says
    with pytest.raises(LifelongCTError, match="one_pass"):
        made.learn(0)
    assert not made.losses


def test_it_is_used_alone_and_counts_cases() -> None:
    with pytest.raises(LifelongCTError, match="Independent cannot be combined with LwF"):
        Independent().check_others([LwF(1.0)])
    for wrong in (0, 1.5, True, "16"):
        with pytest.raises(LifelongCTError, match="router_cases"):
            Isolation(router_cases=wrong)  # type: ignore[arg-type]
