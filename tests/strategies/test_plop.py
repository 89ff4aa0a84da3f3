import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tiny import World

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import PROTOCOL_BASE
from lifelong_ct.strategies.plop import PLOP, histogram, medians, opinion
from lifelong_ct.strategies.pod import distance


def test_entropy_of_two_voxels_by_hand() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]).T.reshape(1, 3, 1, 1, 2)
    told, entropy = opinion((p + 1e-12).log())
    assert told.flatten().tolist()[1] == 2
    expected = [math.log(2) / math.log(3), 1.5 * math.log(2) / math.log(3)]
    assert entropy.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_medians_per_channel_are_numpy_s_to_a_bin() -> None:
    rng = np.random.default_rng(0)
    told, entropy = rng.integers(0, 3, (2, 9, 9, 9)), rng.beta(1, 5, (2, 9, 9, 9))
    counted = rng.random(told.shape) < 0.7
    counts = histogram(*map(torch.from_numpy, (told, entropy, counted)), 4)
    found = medians(counts)
    for c in range(3):
        assert found[c].item() == pytest.approx(np.median(entropy[counted & (told == c)]), abs=2e-3)
    assert found[3] == 0
    assert counts.sum() == counted.sum()


class Spy(SupervisedPlugin):
    """Labels before and after the plugins, and what was added to the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[torch.Tensor] = []
        self.after: list[torch.Tensor] = []
        self.added: list[float] = []

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.before.append(strategy.mb_y.clone())

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.after.append(strategy.mb_y.clone())
        self.added.append((strategy.loss - strategy.criterion()).item())
        self.x = strategy.mb_x.clone()


ONLY_SPLEEN = ([["liver"]], [["spleen"]])


def test_the_old_model_labels_what_it_is_certain_of_and_nobody_annotated() -> None:
    plop, spy = PLOP(patches=4), Spy()
    world = World(plop, spy, annotated=ONLY_SPLEEN)
    world.learn(0, steps=30)
    teacher = plop.teacher
    assert spy.added == [0.0] * 30
    held = list(_held_out(world, 4))
    world.learn(1, steps=1)
    y, after = spy.before[-1], spy.after[-1]

    def asked(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        p = teacher(x).softmax(1)
        return p.argmax(1), -(p * p.log()).sum(1) / math.log(2)

    told, entropy = zip(*(asked(x) for x, _ in held))
    open_ = torch.cat([codes[:, 0] >= PROTOCOL_BASE for _, codes in held])
    limits = [entropies(torch.cat(told), torch.cat(entropy), open_, c) for c in (0, 1)]
    np.testing.assert_allclose(plop.limits, limits, atol=2e-3)

    told_now, entropy_now = asked(spy.x)
    sure = entropy_now < plop.limits[told_now]
    rewritten = (y[:, 0] >= PROTOCOL_BASE) & sure
    assert 0.2 < rewritten.float().mean() < 0.9
    assert torch.equal(after[:, 0][~rewritten], y[:, 0][~rewritten])
    assert (after[:, 0][rewritten & (told_now == 1)] == 1).all()
    assert (after[:, 0][rewritten & (told_now == 0)] == 0).all(), (
        "liver and spleen: all of this stream is known"
    )


def entropies(told: torch.Tensor, entropy: torch.Tensor, counted: torch.Tensor, channel: int) -> float:
    chosen = entropy[counted & (told == channel)].detach().numpy()
    return max(0.001, float(np.median(chosen))) if len(chosen) else 0.001


def _held_out(world: World, count: int) -> Any:
    """The patches that the learner will not train on, as it numbers them."""
    for i in range(count):
        batch = world.sources[1].batch((1 << 40) + i)
        yield batch.x[:1], batch.y[:1]


def test_the_distance_is_added_with_its_schedule_and_starts_at_nothing() -> None:
    plop, spy = PLOP(pod_lambda=2.0, patches=1, scales=(1, 2)), Spy()
    world = World(plop, spy, optimizer=partial(torch.optim.SGD, lr=0.0))
    world.learn(0)
    teacher = plop.teacher
    world.learn(1, steps=1)
    assert spy.added[-1] == pytest.approx(0.0, abs=1e-6), "the features are still the old ones"
    assert plop.teacher.head.weight.shape[0] == 3
    plop.teacher = teacher  # of two channels, so that the head has grown by one again
    with torch.no_grad():
        world.learner.model.backbone[0].weight += 0.3
    world.learn(1, steps=1)
    # the tiny network has one resolution: its last layer before the head is the end of the backbone
    new, old = (each.backbone(each.normalise(spy.x)) for each in (world.learner.model, teacher))
    expected = 2.0 * math.sqrt(3 / 1) * distance(new, old, [(8, 8, 8), (4, 4, 4)])
    assert expected > 0.01
    assert spy.added[-1] == pytest.approx(expected.item(), rel=1e-4)


def test_wrong_options() -> None:
    with pytest.raises(LifelongCTError, match="scales"):
        PLOP(scales=[0])
    for scales in ([1.5], 2, []):
        with pytest.raises(LifelongCTError, match="scales"):
            PLOP(scales=scales)
    for patches in (0, 1.5, True):
        with pytest.raises(LifelongCTError, match="patches"):
            PLOP(patches=patches)
    with pytest.raises(LifelongCTError, match="layers"):
        PLOP(layers="backbone")
    with pytest.raises(LifelongCTError, match="pod_lambda"):
        PLOP(pod_lambda=-1)
    with pytest.raises(LifelongCTError, match=r"no module backbone\.9") as error:
        World(PLOP(layers=["backbone.9"]))
    assert "backbone.3" in error.value.fix
