"""Bytes counted by hand, with data and without."""

from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lifelong_ct.training.prediction.storages import TEMPORARIES, Storages


@pytest.mark.parametrize("fake", [True, False])
def test_what_is_alive_together_counts_and_a_view_does_not(fake):
    with FakeTensorMode() if fake else nullcontext(), Storages() as storages:
        kept = torch.zeros(1000)
        view = kept[:10]
        gone = kept + 1  # 4000 more
        del gone
        storages.begin("second")
        half = kept.half()  # 2000
        storages.name("weights", [view])
    first, second = storages.phases
    assert (first.peak, second.peak) == (8000, 6000)
    assert storages.kinds(second) == {"weights": 4000, TEMPORARIES: 2000}
    assert storages.kinds(first) == {"weights": 4000, TEMPORARIES: 4000}
    assert storages.now == 6000, half


def test_the_gradient_of_a_product_by_hand():
    # w, x: 400 each; the product 400, its mean 4; backward: 4 of ones, 400 expanded by division, 400 for the gradient of w
    with Storages() as storages:
        w, x = torch.ones(100, requires_grad=True), torch.ones(100)
        (w * x).sum().backward()
        storages.name("gradients", [w.grad])
    assert storages.now == 1200, "w, x and the gradient stay"
    assert storages.phases[0].peak == 1200 + 4 + 4 or storages.phases[0].peak == 1600 + 4 + 4


def test_what_no_allocator_gave_is_left_out_and_workspaces_are_not():
    def inside(func, args):
        return 70 if func is torch.ops.aten.add.Tensor else 0

    with Storages(inside) as storages:
        host = torch.zeros(1000)
        storages.leave_out(host)
        made = host[:5] + 1
    assert storages.phases[0].peak == 4000, "while it was there"
    assert storages.now == made.untyped_storage().nbytes() == 20
    storages.begin("more")
    with storages:
        made = made + 1
    assert storages.phases[1].peak == 20 + 20 + 70


def test_a_number_that_is_not_there_is_one():
    with FakeTensorMode(), Storages():
        x = torch.rand(3)
        assert x.sum().item() == 1.0
        assert x.tolist() == [1.0] * 3
        assert bool(torch.equal(x, x))
