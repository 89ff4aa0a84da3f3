"""Weights of an optimizer whose state lies on the host are those of one whose state does not."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from lifelong_ct.training.host_state import hosted

MAKERS = [
    partial(torch.optim.AdamW, lr=0.1),
    partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    partial(torch.optim.Adam, lr=0.1, amsgrad=True),
]


def stepped(make, model, steps):
    optimizer = make(model.parameters())
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator).to(p.device)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_weights_and_the_same_state(make):
    plain = nn.Linear(3, 2)
    other = copy.deepcopy(plain)
    one, two = stepped(make, plain, 3), stepped(hosted(make), other, 3)
    assert all(map(torch.equal, plain.parameters(), other.parameters()))
    assert one.state_dict()["state"].keys() == two.state_dict()["state"].keys()
    resumed = hosted(make)(other.parameters())
    resumed.load_state_dict(copy.deepcopy(one.state_dict()))
    one.step()
    for mine, theirs in zip(other.parameters(), plain.parameters(), strict=True):
        mine.grad = theirs.grad
    resumed.step()
    assert all(map(torch.equal, plain.parameters(), other.parameters()))
    assert isinstance(resumed, type(one))


@pytest.mark.gpu
def test_the_device_holds_no_moments():
    model = nn.Linear(300, 200).cuda()
    optimizer = stepped(hosted(MAKERS[0]), model, 2)
    assert all(t.device.type == "cpu" for state in optimizer.state.values() for t in state.values())
