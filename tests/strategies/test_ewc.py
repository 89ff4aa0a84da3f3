from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import World
from torch import nn

from lifelong_ct.core.errors import LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.strategies.ewc import OnlineEWC, diagonal_fisher


class Softmax(nn.Module):
    """Softmax regression per voxel: logits = W x + b, x in HU."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5], [-0.2], [0.1]]))
        self.bias = nn.Parameter(torch.tensor([0.0, 0.3, -0.1]))
        self.drop = nn.Dropout(0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.einsum("kc,bcdhw->bkdhw", self.weight, self.drop(x.float()))
        return logits + self.bias.view(1, -1, 1, 1, 1)


class Lender:
    """What `diagonal_fisher` needs of a learner."""

    def __init__(self, patches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.model, self.patches, self.device = Softmax(), patches, torch.device("cpu")

    def held_out_patches(self, count: int) -> Any:
        yield from self.patches[:count]

    @staticmethod
    def _criterion(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, y[:, 0].long())


def patches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(-3, 4, (count, 1, 1, 2, 2, 2), generator=rng, dtype=torch.int16)
    return list(zip(x, torch.randint(0, 3, x.shape, generator=rng, dtype=torch.uint8)))


def test_fisher_of_softmax_regression_is_the_mean_square_of_its_score() -> None:
    lender = Lender(patches(5))
    lender.model.train()
    fisher = diagonal_fisher(lender, 5)
    weight, bias = lender.model.weight.detach().double(), lender.model.bias.detach().double()
    of_weight, of_bias = torch.zeros(3, dtype=torch.double), torch.zeros(3, dtype=torch.double)
    for x, y in lender.patches:
        v, labels = x.flatten().double(), y.flatten().long()
        p = (weight @ v[None] + bias[:, None]).softmax(0)
        score = p - nn.functional.one_hot(labels, 3).T  # d(-log p_y) / d logits
        of_weight += (score * v).mean(1).square() / 5
        of_bias += score.mean(1).square() / 5
    torch.testing.assert_close(fisher["weight"][:, 0].double(), of_weight, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(fisher["bias"].double(), of_bias, rtol=1e-5, atol=1e-9)
    assert lender.model.training, "the mode of the model is as before"
    assert lender.model.weight.grad is None


def test_penalty_is_half_lambda_times_importance_times_squared_distance() -> None:
    ewc, model = OnlineEWC(ewc_lambda=3.0), Softmax()
    ewc.fisher = {"weight": torch.tensor([[1.0], [2.0]]), "bias": torch.tensor([0.5, 0.0])}
    ewc.anchor = {"weight": torch.tensor([[0.5], [0.8]]), "bias": torch.tensor([2.0, 9.0])}
    expected = 3 / 2 * (1 * 0**2 + 2 * (-0.2 - 0.8) ** 2 + 0.5 * (0 - 2) ** 2 + 0)
    penalty = ewc.penalty(model)  # the third row has grown since: it is free
    assert penalty.item() == pytest.approx(expected)
    penalty.backward()
    assert model.weight.grad is not None
    assert model.weight.grad[:, 0].tolist() == pytest.approx([0.0, 3 * 2 * (-0.2 - 0.8), 0.0])


def test_importance_decays_by_gamma_and_is_summed() -> None:
    ewc, lender = OnlineEWC(ewc_lambda=1.0, gamma=0.25, patches=2), Lender(patches(2))
    World(ewc)  # binds it
    old = torch.tensor([8.0, 4.0])
    ewc.fisher, ewc.anchor = {"bias": old.clone()}, {"bias": torch.zeros(2)}
    ewc.after_training_exp(lender)
    fresh = diagonal_fisher(lender, 2)
    torch.testing.assert_close(ewc.fisher["bias"], fresh["bias"] + torch.tensor([2.0, 1.0, 0.0]))
    torch.testing.assert_close(ewc.fisher["weight"], fresh["weight"])
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


def test_bytes_are_two_copies_of_the_parameters_and_do_not_grow_with_hospitals() -> None:
    ledger = Ledger()
    ewc = OnlineEWC(1.0, patches=1)
    world = World(ewc, bind={"ledger": ledger})
    held = []
    for experience in (0, 1, 1):
        world.learner.experience = None
        world.learn(experience, steps=1)
        held.append(ledger.held("gpu"))
    parameters = 4 * sum(p.numel() for p in world.learner.model.parameters())
    assert held[1] == held[2] == 2 * parameters == ewc.held_bytes()["gpu"]
    assert ewc.declared_bytes(parameters) == {"gpu": 2 * parameters}


def test_a_limit_that_is_too_small_is_refused_before_anything_is_kept() -> None:
    ewc = OnlineEWC(1.0, patches=1)
    world = World(ewc, bind={"ledger": Ledger({"gpu": 100})})
    with pytest.raises(LimitExceeded, match="EWC"):
        world.learn(0, steps=1)
    assert not ewc.fisher
    assert not ewc.anchor


def test_a_loaded_state_follows_the_model_to_its_device() -> None:
    first, second = OnlineEWC(1.0, patches=1), OnlineEWC(1.0, patches=1)
    World(first).learn(0)
    World(second)
    second.load_state_dict(first.state_dict())
    second.before_training_exp(SimpleNamespace(device=torch.device("meta")))
    assert {t.device.type for t in (*second.fisher.values(), *second.anchor.values())} == {"meta"}
