"""What the mark of a step copies."""

import torch
from tiny import model
from torch import nn

from lifelong_ct.models.parts import Learnt
from lifelong_ct.models.swapped import SwappedModel
from lifelong_ct.training.prediction.allocator import allocated
from lifelong_ct.training.undoing import mark


def test_a_part_that_is_learnt_is_not_copied_any_more() -> None:
    parted = SwappedModel(model())
    parted.begin(Learnt("first", (0, 1)), model)
    parted.parts[0].register_buffer("large", torch.zeros(1_000_000))
    assert allocated(lambda: mark(parted, [])) >= 4_000_000
    parted.freeze()
    parted.begin(Learnt("second", (0, 2)), model)
    assert allocated(lambda: mark(parted, [])) < 100_000


def test_neither_is_the_router() -> None:
    parted = SwappedModel(model())
    parted.begin(Learnt("first", (0, 1)), model)
    parted.freeze()
    parted.watch([torch.zeros(1, 1, 8, 8, 8)])
    assert parted.router is not None
    parted.router.spread = torch.zeros(1_000_000)
    assert allocated(lambda: mark(parted, [])) < 100_000


def test_running_statistics_come_back() -> None:
    norm = nn.BatchNorm3d(1)
    undo = mark(norm, [])
    norm(torch.ones(1, 1, 2, 2, 2))
    undo()
    assert norm.running_mean is not None
    assert norm.num_batches_tracked is not None
    assert norm.running_mean.item() == norm.num_batches_tracked.item() == 0
