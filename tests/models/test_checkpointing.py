"""Checkpointed networks are what they were, to the last bit."""

import copy

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, UNet

from lifelong_ct.models.checkpointing import Checkpointed, blocks, checkpointed

NETWORKS = {
    "unet": lambda: UNet(3, 1, 4, (8, 16, 32), (2, 2), num_res_units=2, norm="BATCH", dropout=0.2),
    "segresnet": lambda: SegResNet(3, 8, 1, 8, dropout_prob=0.1),
    "dynunet": lambda: DynUNet(3, 1, 8, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32]),
}


def trained(model):
    """Gradients and running statistics after a step with a fixed seed."""
    torch.manual_seed(1)
    model.train()
    model(torch.randn(1, 1, 16, 16, 16)).square().mean().backward()
    return [*(p.grad for p in model.parameters()), *model.buffers()]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_gradients_statistics_and_names(name):
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    changed = checkpointed(copy.deepcopy(plain))
    assert sum(isinstance(m, Checkpointed) for m in changed.modules()) == len(set(blocks(plain))) >= 3
    assert list(plain.state_dict()) == list(changed.state_dict())
    copied = copy.deepcopy(changed)
    expected = trained(plain)
    for model in (changed, copied):
        assert all(map(torch.equal, expected, trained(model)))
    with torch.no_grad():
        x = torch.randn(1, 1, 16, 16, 16)
        assert torch.equal(plain.eval()(x), changed.eval()(x))
