"""What every method with a teacher promises."""

from functools import partial
from typing import Any

import pytest
import torch
from test_mib import Seen
from tiny import World
from torch import nn

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.ema_teacher import EMATeacher, consistency
from lifelong_ct.strategies.lwf import LwF, distillation
from lifelong_ct.strategies.mib import MiB, unbiased_distillation
from lifelong_ct.strategies.plop import PLOP
from lifelong_ct.strategies.pod import distance, windows
from lifelong_ct.strategies.prototypes import Prototypes
from lifelong_ct.strategies.pseudo_labels import PseudoLabels
from lifelong_ct.strategies.teacher import folded, heirs

FROZEN = [lambda: LwF(1.0), MiB, PseudoLabels, lambda: PLOP(patches=2)]
ALL = [*FROZEN, EMATeacher]


def tensors(tree: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in tree.state_dict().items()}


@pytest.mark.parametrize("make", FROZEN)
def test_the_teacher_is_the_old_model_to_the_bit_and_stays_so(make: Any) -> None:
    plugin = make()
    world = World(plugin)
    world.learner.model.backbone.append(torch.nn.BatchNorm3d(4))
    world.learn(0)
    taught, before = tensors(plugin.teacher), world.weights()
    assert taught.keys() == before.keys()
    assert all(torch.equal(taught[name], value) for name, value in before.items())
    teacher = plugin.teacher
    world.learn(1, steps=3)
    assert all(torch.equal(value, taught[name]) for name, value in tensors(teacher).items())
    assert any("running_mean" in name for name in taught)
    assert not teacher.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not any(module._forward_hooks for module in teacher.modules())
    assert not any(module._forward_hooks for module in world.learner.model.modules())


@pytest.mark.parametrize("make", ALL)
def test_twenty_experiences_take_the_bytes_of_two(make: Any) -> None:
    plugin, ledger = make(), Ledger()
    world = World(plugin, bind={"ledger": ledger, "hospitals": ["first"] + ["second"] * 19})
    held = []
    for i in range(20):
        world.learn(min(i, 1), steps=1)
        held.append(plugin.held_bytes())
    nbytes = 4 * sum(p.numel() for p in world.learner.model.parameters())
    assert held[1] == held[-1] == {"gpu": nbytes} == plugin.declared_bytes(nbytes)
    assert ledger.held("gpu") == nbytes
    assert len(world.space.protocols) <= 1


@pytest.mark.parametrize("make", ALL)
def test_the_state_brings_the_teacher_back(make: Any) -> None:
    plugin = make()
    world = World(plugin)
    world.learn(0)
    world.learn(1)
    other = make()
    World(other).load_state_dict(world.state_dict())
    there, back = tensors(plugin.teacher), tensors(other.teacher)
    assert there.keys() == back.keys()
    assert all(torch.equal(back[name], value) for name, value in there.items())
    assert not other.teacher.training
    fresh = make()
    World(fresh).load_state_dict(World(make()).state_dict())
    assert fresh.teacher is None


GROUPS = [[0, 3], [1], [2]]
LOSSES = {
    "LwF": lambda new, old: distillation(new, old, 2.0),
    "MiB": lambda new, old: unbiased_distillation(new, old, GROUPS),
    "EMA": lambda new, old: consistency(new[:, :3], old),
    "Local POD": lambda new, old: distance(
        new[:, :3], old, windows(old.shape[2:], (16,) * 3, new.shape[2:], (1, 2, 4))
    ),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_patch_tiled_from_16_to_64_has_the_same_loss(loss: Any) -> None:
    torch.manual_seed(0)
    new, old = torch.randn(1, 4, 16, 16, 16), torch.randn(1, 3, 16, 16, 16)
    small = loss(new, old)
    assert small > 0
    torch.testing.assert_close(loss(new.repeat(1, 1, 4, 4, 4), old.repeat(1, 1, 4, 4, 4)), small)


def test_what_the_old_model_called_an_organ_that_it_did_not_know() -> None:
    space = LabelSpace(
        ["kidney", "kidney_left", "kidney_right", "kidney_tumor_left", "kidney_tumor_right", "liver"]
    )
    space.see(["kidney", "kidney_left"])
    space.see(["liver", "kidney_right", "kidney_tumor_left", "kidney_tumor_right"])
    new = space.channels[2:]
    assert new == ["kidney_right", "kidney_tumor_left", "kidney_tumor_right", "liver"]
    # right side and its tumour lie in the kidney, the tumour on the left in the left kidney, the liver in nothing
    assert heirs(space, 3, 7) == [[0, 6], [1, 3, 5], [2, 4]]
    assert heirs(space, 3, 3) == [[0], [1], [2]]
    anywhere = LabelSpace(["liver", "any_tumor"])
    anywhere.see(["liver"])
    anywhere.see(["any_tumor"])
    assert heirs(anywhere, 2, 3) == [[0, 2], [1]]


def test_folding_sums_probabilities() -> None:
    p = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1, 1, 1)
    torch.testing.assert_close(folded(p.log(), GROUPS).exp().flatten(), torch.tensor([0.5, 0.2, 0.3]))


@pytest.mark.parametrize("wrong", [-1, "many", None, True, float("nan"), float("inf")])
def test_weights_that_are_none(wrong: Any) -> None:
    with pytest.raises(LifelongCTError, match="weight="):
        check_numbers(weight=wrong, other=1.0)


class Padding(SupervisedPlugin):
    """Makes padding of half of each patch, with voxels of one value there."""

    def __init__(self, hu: int) -> None:
        super().__init__()
        self.hu = hu

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        x, y = (each.clone() for each in strategy.mbatch[:2])
        x[..., 4:], y[..., 4:] = self.hu, IGNORE
        strategy.mbatch[:2] = [x, y]


DISTILLING = {
    "LwF": lambda: LwF(3.0),
    "MiB": lambda: MiB(3.0),
    "PLOP": lambda: PLOP(3.0, patches=1),
    "EMA": lambda: EMATeacher(3.0),
    "Prototypes": lambda: Prototypes(0.0, 3.0, patches=1),
}


@pytest.mark.parametrize("method", DISTILLING)
def test_what_the_models_say_of_padding_costs_nothing(method: str) -> None:
    """A network of single voxels, whose answer in the padding is another for each HU that stands there."""
    added = []
    for hu in (-1024, 1024):
        seen, net = Seen(), SegmentationModel(nn.Conv3d(1, 4, 1), features=4)
        net.load_state_dict(
            {n: torch.linspace(-1, 1, v.numel()).view_as(v) for n, v in net.state_dict().items()}
        )
        world = World(
            Padding(hu), DISTILLING[method](), seen, model=net, optimizer=partial(torch.optim.SGD, lr=0.0)
        )
        world.learn(0)
        with torch.no_grad():
            world.learner.model.backbone.weight += 0.7
        world.learn(1, steps=1)
        added.append(seen.added[-1])
    assert added[0] == pytest.approx(added[1], rel=1e-4)
    assert added[0] > 1e-4
