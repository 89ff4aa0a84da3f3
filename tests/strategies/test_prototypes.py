import copy
from typing import Any

import numpy as np
import pytest
import torch
from test_partial_labels import LIVER, two_hospitals
from tiny import World

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.labels import IGNORE, Protocol
from lifelong_ct.strategies.prototypes import LEAST, Prototypes, moved


class Gradients(SupervisedPlugin):
    """What the plugins before it in the list add to the loss, its gradient per parameter, and the model of then."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[torch.Tensor] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.added.append(strategy.loss - strategy.criterion())
        self.x, self.model = strategy.mb_x, copy.deepcopy(strategy.model)
        named = dict(strategy.model.named_parameters())
        found = torch.autograd.grad(
            self.added[-1], list(named.values()), retain_graph=True, allow_unused=True
        )
        self.gradients = dict(zip(named, found, strict=True))


def kept(prototypes: Prototypes, hospital: str) -> dict[int, np.ndarray]:
    rows = zip(prototypes.rows, prototypes.gaussians.numpy(), strict=True)
    return {code: gaussian for (owner, code), gaussian in rows if owner == hospital}


def by_hand(world: World, hospital: int, patches: int) -> dict[int, np.ndarray]:
    """Mean and standard deviation of the features of each code, from numpy."""
    model = world.learner.model.eval()
    pairs = [world.sources[hospital].batch((1 << 40) + i) for i in range(patches)]
    with torch.no_grad():
        features = [model.backbone(model.normalise(b.x[:1])).movedim(1, -1).reshape(-1, 4) for b in pairs]
    f, y = torch.cat(features).double().numpy(), np.concatenate([b.y[:1].numpy().ravel() for b in pairs])
    found = {int(c): f[y == c] for c in np.unique(y) if (y == c).sum() >= LEAST}
    return {code: np.stack([own.mean(0), own.std(0)]) for code, own in found.items()}


def test_prototypes_are_mean_and_deviation_of_the_features_of_each_code() -> None:
    prototypes = Prototypes(patches=3)
    world = World(prototypes)
    for i, hospital in enumerate(("first", "second")):
        world.learn(i, steps=3)
        expected = by_hand(world, i, 3)
        found = kept(prototypes, hospital)
        assert found.keys() == expected.keys()
        assert len(found) > i + 1, "the organs, and what is around them"
        for code, gaussian in expected.items():
            np.testing.assert_allclose(found[code], gaussian, rtol=1e-4, atol=1e-6)


def test_what_is_drawn_is_gaussian_and_of_every_prototype_with_equal_right() -> None:
    prototypes = Prototypes(samples=20_000)
    World(prototypes)
    prototypes.rows = [("first", 1), ("second", 161)]
    prototypes.gaussians = torch.tensor([[[0.0, 1, 2, 3], [1, 2, 0, 0.5]], [[9.0, 9, 9, 9], [0, 0, 1, 0]]])
    z, y = prototypes.draw(0, 0, torch.device("cpu"))
    assert (z.shape, y.shape) == ((1, 4, 20_000, 1, 1), (1, 1, 20_000, 1, 1))
    codes, features = y.flatten(), z[0, :, :, 0, 0].T
    assert (codes == 1).double().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / 20_000**0.5)
    for (_, code), (mean, spread) in zip(prototypes.rows, prototypes.gaussians, strict=True):
        mine = features[codes == code]
        error = 5 / len(mine) ** 0.5
        torch.testing.assert_close(mine.mean(0), mean, rtol=0, atol=2 * error)
        torch.testing.assert_close(mine.std(0), spread, rtol=error, atol=1e-6)
    other, _ = prototypes.draw(1, 0, torch.device("cpu"))
    assert not torch.equal(z, other)
    assert torch.equal(z, prototypes.draw(0, 0, torch.device("cpu"))[0])


def test_two_prototypes_without_spread_cost_the_cross_entropy_of_the_head_by_hand() -> None:
    """One of liver at (1,0,0,0), one of background at (0,1,0,0); the head's rows are (0,0,…), (2,1,…)."""
    prototypes = Prototypes(prototype_lambda=3.0, feature_lambda=0.0, samples=2)
    spy = Gradients()
    world = World(prototypes, spy, annotated=([["liver", "spleen"]], [["liver", "spleen"]]))
    world.learn(0, steps=1)
    prototypes.rows = [("first", 1), ("first", 0)]
    prototypes.gaussians = torch.tensor([[[1.0, 0, 0, 0]], [[0.0, 1, 0, 0]]]).repeat(1, 2, 1)
    prototypes.gaussians[:, 1] = 0
    head = world.learner.model.head
    with torch.no_grad():
        head.weight.zero_()
        head.weight[1, :2, 0, 0, 0] = torch.tensor([2.0, 1.0])
        head.bias.zero_()
    world.learner._criterion.dice_weight = 0.0
    world.learn(1, steps=1)
    _, y = prototypes.draw(1, 0, torch.device("cpu"))
    e = np.exp(1)
    cost = {1: -np.log(e**2 / (e**2 + 2)), 0: -np.log(1 / (e + 2))}
    expected = 3.0 * np.mean([cost[int(code)] for code in y.flatten()])
    assert spy.added[-1].item() == pytest.approx(expected, rel=1e-5)
    assert all(g is None or not g.any() for n, g in spy.gradients.items() if not n.startswith("head."))
    assert spy.gradients["head.weight"].any()


def test_features_that_moved_by_hand_and_whatever_the_size_of_the_patch() -> None:
    old = torch.tensor([1.0, 2.0]).view(1, 1, 1, 1, 2)
    new = torch.tensor([1.5, 1.0]).view(1, 1, 1, 1, 2)
    assert moved(new, old).item() == pytest.approx((0.25 + 1) / 5)
    torch.manual_seed(0)
    new, old = torch.randn(2, 3, 2, 2, 2), torch.randn(2, 3, 2, 2, 2)
    tiled = moved(new.repeat(1, 1, 4, 4, 4), old.repeat(1, 1, 4, 4, 4))
    torch.testing.assert_close(tiled, moved(new, old))
    torch.testing.assert_close(moved(new, old), (moved(new[:1], old[:1]) + moved(new[1:], old[1:])) / 2)


def test_the_distance_of_the_features_is_that_to_the_old_model_s() -> None:
    prototypes = Prototypes(prototype_lambda=0.0, feature_lambda=2.0)
    spy = Gradients()
    world = World(prototypes, spy)
    world.learn(0, steps=2)
    assert spy.added[-1].item() == pytest.approx(0, abs=1e-6), "nothing is held in the first hospital"
    teacher = prototypes.teacher
    assert teacher is not None
    world.learn(1, steps=3)
    assert spy.added[-3].item() == pytest.approx(0, abs=1e-6), "still the teacher itself"
    with torch.no_grad():
        new, old = (net.backbone(net.normalise(spy.x)) for net in (spy.model, teacher))
    apart = sum(((a - b) ** 2).sum() / (b**2).sum() for a, b in zip(new, old, strict=True)) / len(new)
    assert apart > 1e-4
    assert spy.added[-1].item() == pytest.approx(2.0 * apart.item(), rel=1e-3)


@pytest.mark.parametrize(("sharing", "leaves"), [("forbid", False), ("features", True), ("patches", True)])
def test_who_forbids_features_leaves_no_prototype(sharing: str, leaves: bool) -> None:
    prototypes = Prototypes(patches=2)
    world = World(prototypes, bind={"sharing": {"first": sharing}})
    world.learn(0)
    assert bool(kept(prototypes, "first")) is leaves
    world.learn(1)
    assert not kept(prototypes, "second"), "nobody asked it"


def test_a_few_voxels_are_no_prototype_and_organs_come_before_what_is_unlabelled() -> None:
    prototypes = Prototypes()
    world = World(prototypes)
    codes = len(world.space.candidates())
    world.space.see(["liver", "spleen"])
    world.space.protocols = [Protocol(frozenset(["liver"])), *[Protocol(frozenset())] * 7]
    count = torch.zeros(codes)
    count[1], count[2], count[160], count[161], count[IGNORE] = LEAST, LEAST - 1, 900, 500, 10_000
    moments = torch.zeros(codes, 4), torch.ones(codes, 4)
    prototypes._keep("first", count, *moments)
    assert prototypes.rows == [("first", 1), ("first", 160), ("first", 161)]
    prototypes.rows = []
    count[1:3], count[160:168] = LEAST, torch.arange(LEAST, LEAST + 8)
    prototypes._keep("first", count, *moments)
    assert [code for _, code in prototypes.rows] == [1, 2, 167, 166, 165, 164], "2 (organs + 1) of them"


def test_bytes_are_the_formula_s() -> None:
    ledger = Ledger()
    prototypes = Prototypes(patches=2)
    world = World(prototypes, bind={"ledger": ledger})
    formula = 2 * 16 * (2 + 1) * 4  # hospitals, organs, features
    assert prototypes.declared_bytes(1000) == {"gpu": 1000, "ram": formula}
    assert ledger.held("ram") == formula
    for i in (0, 1):
        world.learn(i)
        held = prototypes.held_bytes()
        assert 0 < held["ram"] == len(prototypes.rows) * 2 * 4 * 4 <= formula
    nbytes = 4 * sum(p.numel() for p in world.learner.model.parameters())
    assert held["gpu"] == nbytes


def test_a_hospital_without_the_liver_never_pushes_it_down_by_its_prototypes() -> None:
    prototypes = Prototypes(patches=8)
    world = two_hospitals(prototypes)
    world.learn(0, steps=3)
    prototypes.rows, prototypes.gaussians = [], prototypes.gaussians[:0]
    world.learn(1, steps=3)
    assert {owner for owner, _ in prototypes.rows} == {"second"}
    z, y = prototypes.draw(0, 0, torch.device("cpu"))
    logits = world.learner.model.head(z).detach().requires_grad_()
    world.learner._criterion(logits, y).backward()
    maybe = torch.from_numpy(world.space.candidates())[y.flatten()][:, LIVER]
    assert 0 < maybe.sum() < len(maybe)
    assert logits.grad is not None
    assert logits.grad[0, LIVER].flatten()[maybe].max() <= 1e-9


def test_another_process_goes_on_with_the_same_weights() -> None:
    whole, broken = World(Prototypes(patches=2)), World(Prototypes(patches=2))
    for world in (whole, broken):
        world.learn(0)
    resumed = World(Prototypes(patches=2))
    assert resumed.sources[0].luts
    resumed.load_state_dict(broken.state_dict())
    for world in (whole, resumed):
        world.learn(1, steps=3)
    assert all(torch.equal(value, resumed.weights()[name]) for name, value in whole.weights().items())


@pytest.mark.parametrize(
    "wrong",
    [{name: v} for name in ("samples", "patches") for v in (0, 1.5, True)] + [{"prototype_lambda": -1.0}],
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(LifelongCTError, match=next(iter(wrong))):
        Prototypes(**wrong)
