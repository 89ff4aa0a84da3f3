"""What the mark of a step copies."""

import torch
from torch import nn

from lifelong_ct.models.swapped import Tensors
from lifelong_ct.training.prediction.allocator import allocated
from lifelong_ct.training.undoing import mark


def test_a_part_that_is_learnt_is_not_copied_any_more() -> None:
    part = Tensors({"weight": torch.zeros(4)}, {"mean": torch.zeros(1_000_000)})
    model = nn.Sequential(part, nn.BatchNorm3d(1))
    assert allocated(lambda: mark(model, [])) >= 4_000_000
    part.requires_grad_(False)
    assert allocated(lambda: mark(model, [])) < 100_000
    undo = mark(model, [])
    model[1](torch.ones(1, 1, 2, 2, 2))
    undo()
    assert model[1].running_mean.item() == model[1].num_batches_tracked.item() == 0
