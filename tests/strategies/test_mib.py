"""MiB by hand, and against its equations written voxel by voxel."""

from functools import partial
from math import log
from typing import Any

import pytest
import torch
from tiny import World

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.losses.dice_ce import PartialDiceCE
from lifelong_ct.strategies.mib import MiB, share_rows, unbiased_distillation
from lifelong_ct.strategies.teacher import folded, heirs


def test_two_voxels_of_the_distillation_by_hand() -> None:
    old = torch.tensor([[0.0, 0.0], [log(3), 0.0]]).T.reshape(1, 2, 1, 1, 2)
    new = torch.tensor([[0.0, log(2), 0.0], [0.0, 0.0, 0.0]]).T.reshape(1, 3, 1, 1, 2)
    # old: (1/2, 1/2) and (3/4, 1/4); new: (1/4, 1/2, 1/4) and thirds, so background with the new organ 1/2 and 2/3
    first = -(log(1 / 2) / 2 + log(1 / 2) / 2)
    second = -(3 / 4 * log(2 / 3) + 1 / 4 * log(1 / 3))
    expected = (first + second) / 2 / 2  # voxels, old channels
    assert unbiased_distillation(new, old, [[0, 2], [1]]).item() == pytest.approx(expected)


def test_padding_is_no_voxel_of_the_distillation() -> None:
    old, new = torch.zeros(1, 2, 1, 1, 2), torch.tensor([[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]]).T.log()
    y = torch.tensor([0, IGNORE], dtype=torch.uint8).view(1, 1, 1, 1, 2)
    # (1/2, 1/2) of old and of new, with the new organ in the background
    found = unbiased_distillation(new.reshape(1, 3, 1, 1, 2), old, [[0, 2], [1]], y)
    assert found.item() == pytest.approx(log(2) / 2, rel=1e-6)


def test_two_voxels_of_the_cross_entropy_are_those_of_the_marginal_loss() -> None:
    space = LabelSpace(["liver", "spleen"])
    space.see(["liver"])
    y = torch.from_numpy(space.encode_lut(["spleen"])).view(1, 1, 1, 1, 2)  # background of today, spleen
    p = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.3, 0.6]]).T.reshape(1, 3, 1, 1, 2)
    expected = (-log(0.2 + 0.5) - log(0.6)) / 2
    assert PartialDiceCE(space, dice_weight=0.0)(p.log(), y).item() == pytest.approx(expected, rel=1e-6)


def test_many_voxels_against_the_equations() -> None:
    """Three old channels, two new ones, `x` as in a 2D image."""
    torch.manual_seed(1)
    new, old = 2 * torch.randn(2, 5, 1, 6, 7), 2 * torch.randn(2, 3, 1, 6, 7)
    total = 0.0
    for b in range(2):
        for i in range(6):
            for j in range(7):
                q, q_old = new[b, :, 0, i, j].double().softmax(0), old[b, :, 0, i, j].double().softmax(0)
                total -= q_old[0] * (q[0] + q[3] + q[4]).log()
                total -= sum(q_old[c] * q[c].log() for c in (1, 2))
    expected = total / (2 * 6 * 7) / 3
    found = unbiased_distillation(new, old, [[0, 3, 4], [1], [2]])
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_cross_entropy_against_the_equation() -> None:
    """Y of before: background, liver; today's annotators know spleen and stomach."""
    space = LabelSpace(["liver", "spleen", "stomach"])
    space.see(["liver"])
    lut = space.encode_lut(["spleen", "stomach"])
    torch.manual_seed(2)
    local = torch.randint(0, 3, (1, 1, 1, 5, 5))
    x = torch.randn(1, 4, 1, 5, 5)
    q = x[0, :, 0].double().softmax(0)
    terms = [
        (q[0, i, j] + q[1, i, j] if (label := int(local[0, 0, 0, i, j])) == 0 else q[label + 1, i, j]).log()
        for i in range(5)
        for j in range(5)
    ]
    found = PartialDiceCE(space, dice_weight=0.0)(x, torch.from_numpy(lut)[local])
    torch.testing.assert_close(found.double(), -torch.stack(terms).mean(), rtol=1e-5, atol=1e-6)


def test_the_least_distillation_is_the_entropy_of_the_old_answers() -> None:
    """At any answer that splits the old background as it likes the gradient is 0."""
    old = torch.randn(1, 2, 2, 2, 2)
    share = torch.rand(1, 1, 2, 2, 2)
    log_q = old.log_softmax(1)
    new = torch.cat([log_q[:, :1] + share.log(), log_q[:, 1:], log_q[:, :1] + (1 - share).log()], 1)
    new.requires_grad_()
    loss = unbiased_distillation(new, old, [[0, 2], [1]])
    loss.backward()
    torch.testing.assert_close(loss, -(log_q.exp() * log_q).sum(1).mean() / 2)
    assert new.grad is not None
    assert new.grad.abs().max() < 1e-6


def test_rows_that_are_shared_have_together_what_the_first_had() -> None:
    head = torch.nn.Conv3d(3, 5, 1)
    weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
    share_rows(head, [[0, 3], [1, 4], [2]])
    torch.testing.assert_close(head.weight[3], weight[0])
    torch.testing.assert_close(head.bias[[0, 3]], bias[0] - torch.tensor(2.0).log().expand(2))
    assert torch.equal(head.weight[2], weight[2])
    assert torch.equal(head.bias[2], bias[2])
    x = torch.randn(1, 3, 2, 2, 2)
    before = torch.nn.functional.conv3d(x, weight[:3], bias[:3]).log_softmax(1)
    torch.testing.assert_close(folded(head(x).log_softmax(1), [[0, 3], [1, 4], [2]]), before)


class Seen(SupervisedPlugin):
    """Loss of the criterion alone, and with what plugins before this one added; the model's answers."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[float] = []
        self.outputs: list[torch.Tensor] = []
        self.inputs: list[torch.Tensor] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.added.append((strategy.loss - strategy.criterion()).item())
        self.outputs.append(strategy.mb_output.detach().clone())
        self.inputs.append(strategy.mb_x.clone())


def test_the_new_model_starts_with_the_old_answers_and_pays_their_entropy() -> None:
    mib, seen = MiB(mib_lambda=3.0), Seen()
    world = World(mib, seen)
    world.learn(0, steps=4)
    assert seen.added == [0.0] * 4
    teacher = mib.teacher
    world.learn(1, steps=1)
    old = teacher(seen.inputs[-1])
    groups = heirs(world.space, 2, 3)
    torch.testing.assert_close(
        folded(seen.outputs[-1].log_softmax(1), groups), old.log_softmax(1), rtol=1e-4, atol=1e-5
    )
    log_q = old.log_softmax(1)
    entropy = -(log_q.exp() * log_q).sum(1).mean() / 2
    assert seen.added[-1] == pytest.approx(3.0 * entropy.item(), rel=1e-4)


def test_without_initialisation_old_rows_are_left_alone() -> None:
    still: dict[str, Any] = {"optimizer": partial(torch.optim.SGD, lr=0.0)}
    world = World(MiB(initialise=False), **still)
    world.learn(0)
    before = world.weights()["head.bias"]
    world.learn(1)
    assert torch.equal(world.weights()["head.bias"][:2], before)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(LifelongCTError, match="mib_lambda=-1"):
        MiB(mib_lambda=-1)
