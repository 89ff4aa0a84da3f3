import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from test_partial_labels import LIVER, two_hospitals
from tiny import World
from torch import Tensor, nn

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory.selection.herding import Herding
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.strategies.latent_replay import LatentReplay, at, place, short, strides
from lifelong_ct.strategies.lwf import LwF
from lifelong_ct.strategies.plop import PLOP
from lifelong_ct.strategies.prototypes import Prototypes
from lifelong_ct.training.augment import Augment

ROOM = {"exemplar_bytes": 1 << 20}


class Spy(SupervisedPlugin):
    """Stands behind the method: what it added to the loss, and what others see."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[float] = []
        self.weights: list[dict[str, Tensor]] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        assert len(strategy.mb_x) == len(strategy.mb_y) == len(strategy.mb_output) == 2
        self.added.append((strategy.loss - strategy.criterion()).item())
        self.weights.append({n: v.clone() for n, v in strategy.model.state_dict().items()})


def unet() -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(UNet(3, 1, 4, channels=[4, 8], strides=[2], norm="INSTANCE"), 4)


def held_out(world: World, hospital: int, i: int) -> tuple[Tensor, Tensor, str]:
    batch = world.sources[hospital].batch((1 << 40) + i)
    return batch.x[:1], batch.y[:1], batch.cases[0]


def test_features_of_frozen_layers_are_learnt_from_as_their_voxels_would_be() -> None:
    """In the second hospital the loss on replayed features is that of the patches that they were made of."""
    latent, spy = (
        LatentReplay(Reservoir(), 0.5, exemplars_per_batch=1, patches=1, mantissa=10, cut="backbone.3"),
        Spy(),
    )
    world = World(latent, spy, bind=ROOM, augment=Augment(noise=20.0, mirror=(1, 2)))
    world.learn(0, steps=4)
    assert max(map(abs, spy.added)) < 1e-6
    x, y, _ = held_out(world, 0, 0)
    world.learn(1, steps=4)
    for added, weights in zip(spy.added[4:], spy.weights[4:], strict=True):
        world.learner.model.load_state_dict(weights)
        with torch.no_grad():
            expected = 0.5 * world.learner._criterion(world.learner.model(x), y).item()
        assert added == pytest.approx(expected, rel=1e-3)


def test_a_part_of_the_voxels_stands_for_its_block_in_a_unet() -> None:
    latent, spy = LatentReplay(Reservoir(), 2.0, patches=1, mantissa=10), Spy()
    world = World(latent, spy, model=unet(), bind=ROOM)
    world.learn(0, steps=2)
    assert latent.cut is not None
    assert latent.cut.shapes == ((4, 4, 4, 4), (8, 4, 4, 4)), "a skip connection, and the bottom"
    assert latent.stride == (2, 2, 2)
    ((exemplar, parts),) = latent.memory.held()
    x, y, case = held_out(world, 0, 0)
    d, h, w = place(parts["z"], (2, 2, 2))
    assert {name: (tuple(part.shape), part.dtype) for name, part in parts.items()} == {
        "y": ((1, 4, 4, 4), torch.uint8),
        "z": ((4 * 64 + 8 * 64,), torch.float16),
    }
    assert torch.equal(parts["y"], y[0, :, d::2, h::2, w::2])
    assert (exemplar.origin.hospital, exemplar.origin.case) == ("first", case)
    world.learn(1, steps=2)
    world.learner.model.load_state_dict(spy.weights[-1])
    with torch.no_grad():
        logits = world.learner.model(x)[:, :, d::2, h::2, w::2]
    expected = 2.0 * world.learner._criterion(logits, y[:, :, d::2, h::2, w::2]).item()
    assert spy.added[-1] == pytest.approx(expected, rel=1e-3)


def test_what_is_below_the_cut_is_frozen_after_the_first_experience() -> None:
    latent = LatentReplay(Reservoir(), patches=2, cut="backbone.3")
    world = World(latent, bind=ROOM)
    world.learner.model.backbone.insert(3, nn.BatchNorm3d(4))
    latent.cut_at = "backbone.4"
    start = world.weights()
    world.learn(0, steps=3)
    first = world.weights()
    assert all(
        not torch.equal(first[n], start[n]) for n in start if n.startswith("backbone") and "bias" not in n
    )
    world.learn(1, steps=3)
    second = world.weights()
    for name, value in first.items():
        below = name.startswith("backbone") and not name.startswith("backbone.4")
        assert torch.equal(second[name][: len(value)] if value.ndim else second[name], value) is below, name


def test_a_hospital_that_shares_features_leaves_features_and_their_labels_only() -> None:
    latent = LatentReplay(Reservoir(), patches=3)
    world = World(latent, model=unet(), bind=ROOM | {"sharing": {"first": "forbid", "second": "features"}})
    world.learn(0)
    assert len(latent.memory) == 0
    world.learn(1)
    assert len(latent.memory) == 3
    for exemplar, parts in latent.memory.held():
        assert exemplar.origin.hospital == "second"
        assert parts.keys() == {"y", "z"}
        assert parts["y"].numel() == 4**3, "an eighth of the voxels"


@pytest.mark.parametrize("other", [lambda: PLOP(patches=2), lambda: Prototypes(patches=2), lambda: LwF(1.0)])
def test_what_others_compare_are_the_new_patches(other: Any) -> None:
    """With λ = 0 their terms are what they are without it."""
    added = []
    for plugins in ([LatentReplay(Reservoir(), 0.0, patches=2)], []):
        spy = Spy()
        world = World(*plugins, other(), spy, bind=ROOM)
        world.learn(0, steps=2)
        with torch.no_grad():
            world.learner.model.head.weight.mul_(1.5)
            world.learner.model.backbone[3].weight.mul_(1.1)
        world.learn(1, steps=1)
        added.append(spy.added[-1])
    assert added[0] == pytest.approx(added[1], rel=1e-4)
    assert abs(added[0]) > 1e-5


def test_bytes_stay_inside_the_budget() -> None:
    ledger, budget = Ledger({"exemplars": 4000, "ram": 4000}), 4000
    latent = LatentReplay(Reservoir(), patches=8)
    world = World(latent, model=unet(), bind={"exemplar_bytes": budget, "ledger": ledger})
    for hospital in (0, 1):
        world.learn(hospital)
        assert 0 < latent.held_bytes()["exemplars"] <= budget
    assert latent.declared_bytes(0) == {"exemplars": budget, "ram": budget}


def test_a_hospital_without_the_liver_never_pushes_it_down_by_its_features() -> None:
    latent = LatentReplay(Reservoir(), patches=4, exemplars_per_batch=4)
    world = two_hospitals(latent, bind=ROOM)
    for hospital in (0, 1):
        world.learn(hospital, steps=3)
    seen: list[tuple[Tensor, Tensor]] = []
    for exemplar, parts in latent.memory.held():
        if exemplar.origin.hospital == "second":
            z = parts["z"].float().view(1, *latent.cut.shapes[0])
            logits = world.learner.model.head(z).detach().requires_grad_()
            world.learner._criterion(logits, parts["y"][None]).backward()
            maybe = torch.from_numpy(world.space.candidates())[:, LIVER][parts["y"].long()]
            seen.append((logits.grad[0, LIVER][maybe[0]], maybe))
    assert len(seen) == 4
    assert all(0 < maybe.sum() < maybe.numel() for _, maybe in seen)
    assert max(slope.max() for slope, _ in seen) <= 1e-9


@pytest.mark.parametrize("mantissa", [0, 2, 4, 10])
def test_numbers_keep_their_first_bits(mantissa: int) -> None:
    rng = np.random.default_rng(0)
    z = (rng.normal(size=5000) * 10.0 ** rng.integers(-2, 4, 5000)).astype(np.float32)
    z = z[np.abs(z) > 2.0**-14]  # below it float16 has fewer bits
    found = short(torch.from_numpy(z), mantissa)
    assert found.dtype == torch.float16
    half = z.astype(np.float16).astype(np.float64)
    fraction, exponent = np.frexp(half)  # ½ ≤ fraction < 1
    scale = 2.0 ** (mantissa + 1)
    expected = np.sign(half) * np.floor(np.abs(fraction) * scale + 0.5) / scale * 2.0**exponent
    np.testing.assert_array_equal(found.double().numpy(), expected)
    assert np.max(np.abs(found.double().numpy() - half) / np.abs(half)) <= 2.0 ** -(mantissa + 1)


def test_numbers_at_the_ends_of_float16() -> None:
    ends = torch.tensor([0.0, -0.0, 1e9, -1e9, 65504.0, 6e-8])
    assert short(ends, 10).tolist() == [0, 0, 65504, -65504, 65504, pytest.approx(5.96e-8, rel=1e-2)]
    assert short(ends, 2).isfinite().all()


def test_places_are_of_every_voxel_of_a_block_with_equal_right() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = [place(torch.randn(4, generator=rng).half(), (2, 1, 3)) for _ in range(3000)]
    assert all(d < 2 and h == 0 and w < 3 for d, h, w in drawn)
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert abs(counts - 500).max() < 5 * math.sqrt(500)
    assert at(torch.arange(6).view(1, 1, 2, 3), (0, 1, 2), (1, 2, 3)).tolist() == [[[[5]]]]


def test_a_grid_that_does_not_divide_the_patch() -> None:
    assert strides((8, 8, 6), (4, 8, 2)) == (2, 1, 3)
    with pytest.raises(LifelongCTError, match="divide"):
        strides((9, 8, 8), (5, 4, 4))


@pytest.mark.parametrize(
    "wrong",
    [{name: v} for name in ("patches", "exemplars_per_batch") for v in (0, 1.5, True)]
    + [{"mantissa": 11}, {"mantissa": 2.5}, {"mantissa": True}, {"latent_lambda": -1.0}],
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(LifelongCTError, match=next(iter(wrong))):
        LatentReplay(Reservoir(), **wrong)


def test_a_policy_that_asks_for_what_nobody_tells_of_features() -> None:
    with pytest.raises(LifelongCTError, match="Herding"):
        LatentReplay(Herding())


def test_a_budget_that_holds_no_features_is_told_before_training() -> None:
    world = World(LatentReplay(Reservoir()), model=unet(), bind={"exemplar_bytes": 400})
    with pytest.raises(LimitExceeded) as error:
        world.learn(0, steps=1)
    assert error.value.where == "memory.exemplars"
    assert not world.losses
