from types import SimpleNamespace

import pytest
import torch
from avalanche.training.plugins import EWCPlugin
from tiny import World
from torch import nn
from toy import Lender, patches, softmax_model, three_classes, tiled, trained

from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.strategies.ewc import OnlineEWC


def fisher(kind, lender, count, seed=0):
    """What an EWC makes of its first experience."""
    ewc = OnlineEWC(1.0, patches=count, fisher=kind)
    World(ewc, bind={"label_space": three_classes(), "seed": seed})
    ewc.after_training_exp(lender)
    return ewc.importance


@pytest.mark.parametrize("kind", ["loss_gradient", "empirical"])
def test_fisher_of_softmax_regression_is_the_mean_square_of_its_score(kind: str) -> None:
    """The training loss is a cross-entropy here, so both are the same."""
    lender = Lender(softmax_model(), patches(5))
    lender.model.train()
    found = fisher(kind, lender, 5)
    weight, bias = lender.model.weight.detach().double(), lender.model.bias.detach().double()
    of_weight, of_bias = torch.zeros(3, dtype=torch.double), torch.zeros(3, dtype=torch.double)
    for x, y in lender.patches:
        v, labels = x.flatten().double(), y.flatten().long()
        p = (weight @ v[None] + bias[:, None]).softmax(0)
        score = p - nn.functional.one_hot(labels, 3).T  # d(-log p_y) / d logits
        of_weight += (score * v).mean(1).square() / 5
        of_bias += score.mean(1).square() / 5
    torch.testing.assert_close(found["weight"][:, 0].double(), of_weight, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found["bias"].double(), of_bias, rtol=1e-5, atol=1e-9)
    assert lender.model.training, "the mode of the model is as before"
    assert lender.model.weight.grad is None


@pytest.mark.parametrize("times", [1, 2])
def test_sampled_fisher_has_the_information_of_a_voxel_as_its_expectation(times: int) -> None:
    """F of softmax regression is the mean over voxels of p(1 - p) x² and p(1 - p), whatever the patch size. The square
    of a normal variable has the standard deviation √2, so 1500 draws have an error of √(2/1500) = 3.7 %.
    """
    x, y = patches(1)[0]
    lender = Lender(softmax_model(), [tiled((x, y), times)])
    found = fisher("sampled", lender, 1500)
    v = x.flatten().double()
    p = (lender.model.weight.double() @ v[None] + lender.model.bias.double()[:, None]).softmax(0).detach()
    information = p * (1 - p)
    torch.testing.assert_close(
        found["weight"][:, 0].double(), (information * v.square()).mean(1), rtol=0.15, atol=0
    )
    torch.testing.assert_close(found["bias"].double(), information.mean(1), rtol=0.15, atol=0)


def test_sampled_fisher_is_the_same_for_the_same_seed_and_experience_only() -> None:
    def drawn(seed: int, experience: int) -> torch.Tensor:
        return fisher("sampled", Lender(softmax_model(), patches(2), experience), 4, seed)["bias"]

    torch.rand(3)
    first = drawn(0, 0)
    torch.rand(5)
    assert torch.equal(first, drawn(0, 0))
    assert not torch.equal(first, drawn(0, 1))
    assert not torch.equal(first, drawn(1, 0))


@pytest.mark.parametrize("kind", ["loss_gradient", "empirical"])
def test_fisher_does_not_depend_on_the_patch_size(kind: str) -> None:
    small = [patches(1, edge=16)[0]]
    large = [tiled(small[0], 4)]
    found = [fisher(kind, Lender(softmax_model(), given), 1) for given in (small, large)]
    for name in ("weight", "bias"):
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("kind", ["loss_gradient", "empirical"])
def test_weights_are_those_of_avalanche(kind: str) -> None:
    """Its penalty has no ½, so its λ is half of ours; its Fisher is that of single samples at `train_mb_size=1`."""
    ours = trained(OnlineEWC(20.0, gamma=0.5, patches=6, fisher=kind))
    theirs = trained(EWCPlugin(10.0, mode="online", decay_factor=0.5))
    free = trained()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)
        assert (ours[name] - free[name]).abs().max() > 0.1, "the penalty did something"


def test_penalty_is_half_lambda_times_importance_times_squared_distance() -> None:
    ewc, model = OnlineEWC(ewc_lambda=3.0), softmax_model()
    ewc.importance = {"weight": torch.tensor([[1.0], [2.0]]), "bias": torch.tensor([0.5, 0.0])}
    ewc.anchor = {"weight": torch.tensor([[0.5], [0.8]]), "bias": torch.tensor([2.0, 9.0])}
    expected = 3 / 2 * (1 * 0**2 + 2 * (-0.2 - 0.8) ** 2 + 0.5 * (0 - 2) ** 2 + 0)
    penalty = ewc.penalty(model)  # the third row has grown since: it is free
    assert penalty.item() == pytest.approx(expected)
    penalty.backward()
    assert model.weight.grad is not None
    assert model.weight.grad[:, 0].tolist() == pytest.approx([0.0, 3 * 2 * (-0.2 - 0.8), 0.0])


@pytest.mark.parametrize("kind", ["loss_gradient", "empirical"])
def test_importance_decays_by_gamma_and_is_summed(kind: str) -> None:
    lender = Lender(softmax_model(), patches(2))
    ewc = OnlineEWC(ewc_lambda=1.0, gamma=0.25, patches=2, fisher=kind)
    World(ewc, bind={"label_space": three_classes()})
    ewc.importance, ewc.anchor = {"bias": torch.tensor([8.0, 4.0])}, {"bias": torch.zeros(2)}
    ewc.after_training_exp(lender)
    fresh = fisher(kind, lender, 2)
    torch.testing.assert_close(ewc.importance["bias"], fresh["bias"] + torch.tensor([2.0, 1.0, 0.0]))
    torch.testing.assert_close(ewc.importance["weight"], fresh["weight"])
    assert torch.equal(ewc.anchor["bias"], lender.model.bias)
    assert ewc.anchor["bias"].data_ptr() != lender.model.bias.data_ptr()


def test_the_penalty_joins_the_loss_from_the_second_hospital_on() -> None:
    weak, strong = World(OnlineEWC(0.0, patches=2)), World(OnlineEWC(1e6, patches=2))
    for world in (weak, strong):
        world.learn(0, steps=10)
    assert weak.losses == strong.losses
    start = weak.weights()["backbone.0.weight"]
    for world in (weak, strong):
        world.learn(1, steps=10)
    moved = [(world.weights()["backbone.0.weight"] - start).norm() for world in (weak, strong)]
    assert moved[1] < moved[0]


def test_a_limit_that_is_too_small_is_refused_before_anything_is_kept() -> None:
    ewc = OnlineEWC(1.0, patches=1)
    world = World(ewc, bind={"ledger": Ledger({"gpu": 100})})
    with pytest.raises(LimitExceeded, match="EWC"):
        world.learn(0, steps=1)
    assert not ewc.importance
    assert not ewc.anchor


def test_a_loaded_state_follows_the_model_to_its_device() -> None:
    first, second = OnlineEWC(1.0, patches=1), OnlineEWC(1.0, patches=1)
    World(first).learn(0)
    world = World(second)
    second.load_state_dict(first.state_dict())
    model = world.learner.model.to("meta")
    model.grow(2)
    second.before_training_exp(SimpleNamespace(model=model))
    assert {t.device.type for t in (*second.importance.values(), *second.anchor.values())} == {"meta"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ewc_lambda": -1.0}, "ewc_lambda=-1"),
        ({"ewc_lambda": "x"}, "ewc_lambda=x"),
        ({"ewc_lambda": 1.0, "gamma": float("nan")}, "gamma=nan"),
        ({"ewc_lambda": 1.0, "patches": 0}, "patches=0"),
        ({"ewc_lambda": 1.0, "patches": 1.5}, "patches=1.5"),
        ({"ewc_lambda": 1.0, "patches": True}, "patches=True"),
        ({"ewc_lambda": 1.0, "fisher": "true"}, "fisher='true'"),
    ],
)
def test_wrong_arguments_are_told(wrong: dict, told: str) -> None:
    with pytest.raises(LifelongCTError) as error:
        OnlineEWC(**wrong)
    assert told in error.value.what
