from math import log

import pytest
import torch
from tiny import World
from torch.nn.functional import kl_div

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.labels import IGNORE
from lifelong_ct.strategies.lwf import LwF, distillation


def test_distillation_is_torch_s_kl_divergence_per_voxel() -> None:
    torch.manual_seed(0)
    new, old = torch.randn(2, 5, 2, 3, 4), 3 * torch.randn(2, 3, 2, 3, 4)
    temperature = 2.5
    rows = [t[:, :3].movedim(1, -1).reshape(-1, 3) / temperature for t in (new, old)]
    expected = kl_div(rows[0].log_softmax(1), rows[1].log_softmax(1), reduction="batchmean", log_target=True)
    torch.testing.assert_close(distillation(new, old, temperature), expected * temperature**2)


def test_distillation_by_hand() -> None:
    old, new = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]).log_softmax(0)
    # KL((1/2, 1/2) || q) = -log 2 - (log q0 + log q1) / 2
    expected = -torch.log(torch.tensor(2.0)) - new.mean()
    torch.testing.assert_close(distillation(new.view(1, 2, 1, 1, 1), old.view(1, 2, 1, 1, 1), 1.0), expected)


def test_padding_is_left_out_of_each_sample_s_mean_by_hand() -> None:
    """One voxel of three in the first sample, two in the second, all padding in the third: KL of (½, ½) and (p, 1 - p) is
    -log 2 - (log p + log (1 - p)) / 2."""
    p = torch.tensor([[0.2, 0.9, 0.9], [0.3, 0.4, 0.9], [0.9, 0.9, 0.9]])
    new = torch.stack([p, 1 - p], 1).log().view(3, 2, 1, 1, 3)
    y = (
        torch.tensor([[0, IGNORE, IGNORE], [1, 300, IGNORE], [IGNORE] * 3])
        .to(torch.uint16)
        .view(3, 1, 1, 1, 3)
    )
    cost = -log(2) - (p.double().log() + (1 - p.double()).log()) / 2
    expected = (cost[0, 0] + (cost[1, 0] + cost[1, 1]) / 2 + 0) / 3
    found = distillation(new, torch.zeros_like(new), 1.0, y)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_number_of_voxels_does_not_matter() -> None:
    torch.manual_seed(0)
    new, old = torch.randn(1, 3, 2, 2, 2), torch.randn(1, 3, 2, 2, 2)
    small = distillation(new, old, 2.0)
    large = distillation(new.repeat(4, 1, 3, 3, 3), old.repeat(4, 1, 3, 3, 3), 2.0)
    torch.testing.assert_close(small, large)


def test_a_model_that_answers_as_before_pays_nothing_whatever_new_organs_it_knows() -> None:
    old = torch.randn(1, 3, 2, 2, 2)
    new = torch.cat([old, torch.randn(1, 2, 2, 2, 2)], 1)
    assert distillation(new, old, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_the_teacher_is_a_frozen_copy_without_gradients() -> None:
    lwf = LwF(1.0)
    ledger = Ledger()
    world = World(lwf, bind={"ledger": ledger})
    world.learn(0)
    assert lwf.teacher is not None
    teacher, pupil = lwf.teacher.state_dict(), world.learner.model.state_dict()
    assert all(torch.equal(teacher[name], value) for name, value in pupil.items())
    assert all(teacher[name].data_ptr() != value.data_ptr() for name, value in pupil.items())
    world.learn(1, steps=3)
    assert not lwf.teacher.training
    assert all(p.grad is None and not p.requires_grad for p in lwf.teacher.parameters())
    nbytes = 4 * sum(p.numel() for p in world.learner.model.parameters())
    assert lwf.held_bytes() == {"gpu": nbytes} == lwf.declared_bytes(nbytes)
    assert ledger.held("gpu") == nbytes


def test_the_teacher_answers_in_eval_mode_and_does_not_drift() -> None:
    lwf = LwF(1.0)
    world = World(lwf)
    world.learner.model.backbone.append(torch.nn.BatchNorm3d(4))
    world.learn(0)
    assert lwf.teacher is not None
    statistics = {n: b.clone() for n, b in lwf.teacher.named_buffers()}
    teacher = lwf.teacher
    world.learn(1, steps=3)
    assert statistics
    assert all(torch.equal(b, statistics[n]) for n, b in teacher.named_buffers())


def test_the_loss_of_the_second_hospital_holds_lambda_times_the_distillation() -> None:
    seen = {}
    for strength in (0.0, 2.0):
        world = World(LwF(strength))
        world.learn(0, steps=4)
        world.losses.clear()
        teacher = world.weights()
        world.learn(1, steps=2)
        seen[strength] = (world.losses, teacher)
    assert seen[0.0][0][0] == pytest.approx(seen[2.0][0][0], abs=1e-6), "still the teacher itself"
    assert seen[2.0][0][1] != pytest.approx(seen[0.0][0][1], abs=1e-6)
