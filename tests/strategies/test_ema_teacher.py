import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_mib import Seen
from tiny import World

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.cli.main import main
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import IGNORE
from lifelong_ct.strategies.ema_teacher import EMATeacher, append_rows, average, consistency, ramp


def test_consistency_of_two_voxels_by_hand() -> None:
    new = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).T.reshape(1, 2, 1, 1, 2)
    old = torch.tensor([[0.5, 0.5], [0.4, 0.6]]).T.reshape(1, 2, 1, 1, 2)
    assert consistency(new.log(), old.log()).item() == pytest.approx((0 + 0 + 0.3**2 + 0.3**2) / 4)


def test_padding_is_no_voxel_of_the_consistency() -> None:
    new = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).T.reshape(1, 2, 1, 1, 2)
    old = torch.tensor([[0.2, 0.8], [0.4, 0.6]]).T.reshape(1, 2, 1, 1, 2)
    y = torch.tensor([IGNORE, 0], dtype=torch.uint8).view(1, 1, 1, 1, 2)
    assert consistency(new.log(), old.log(), y).item() == pytest.approx(0.3**2)


def test_an_average_of_constant_weights_nears_them_geometrically() -> None:
    teacher, model = torch.nn.BatchNorm3d(2), torch.nn.BatchNorm3d(2)
    torch.nn.init.constant_(model.weight, 5.0)
    model.running_mean.fill_(3.0)
    model.num_batches_tracked.fill_(7)
    for _ in range(4):
        average(teacher, model, 0.9)
    torch.testing.assert_close(teacher.weight, torch.full((2,), 5 + 0.9**4 * (1 - 5)))
    torch.testing.assert_close(teacher.running_mean, torch.full((2,), 3 - 0.9**4 * 3))
    assert teacher.num_batches_tracked == 7


class Weights(SupervisedPlugin):
    def __init__(self) -> None:
        super().__init__()
        self.after: list[torch.Tensor] = []

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.after.append(strategy.model.backbone[0].weight.detach().clone())


def test_the_teacher_is_the_recursion_over_the_weights_after_each_step() -> None:
    ema, weights = EMATeacher(decay=0.8), Weights()
    world = World(ema, weights)
    mean = world.weights()["backbone.0.weight"]
    world.learn(0, steps=4)
    world.learn(1, steps=3)
    for n, now in enumerate(weights.after, start=1):
        alpha = min(0.8, 1 - 1 / (n + 1))  # 1/2, 2/3, 3/4, 0.8, ...
        mean = alpha * mean + (1 - alpha) * now
    torch.testing.assert_close(ema.teacher.backbone[0].weight, mean)
    assert len(weights.after) == 7


def test_the_head_grows_with_the_model_s_rows_and_keeps_its_own() -> None:
    head, grown = torch.nn.Conv3d(2, 2, 1), torch.nn.Conv3d(2, 4, 1)
    before = head.weight.clone()
    append_rows(head, grown)
    assert torch.equal(head.weight[:2], before)
    assert torch.equal(head.weight[2:], grown.weight[2:])
    assert torch.equal(head.bias[2:], grown.bias[2:])
    assert not head.weight.requires_grad
    same = head.weight
    append_rows(head, grown)
    assert head.weight is same


def test_the_loss_holds_the_weighted_distance_to_the_average() -> None:
    ema, seen = EMATeacher(ema_lambda=5.0, decay=0.5, ramp_up=4), Seen()
    still: dict[str, Any] = {"optimizer": partial(torch.optim.SGD, lr=0.0)}
    world = World(ema, seen, **still)
    world.learn(0, steps=1)
    assert seen.added == [0.0], "the teacher is the model"
    with torch.no_grad():
        for parameter in ema.teacher.parameters():
            parameter += 0.1
    expected = consistency(world.learner.model(seen.inputs[0]), ema.teacher(seen.inputs[0]))
    world.sources[1] = world.sources[0]
    world.learn(1, steps=1)
    assert torch.equal(seen.inputs[1], seen.inputs[0])
    assert seen.added[1] == pytest.approx(5.0 * math.exp(-5 * (3 / 4) ** 2) * expected.item(), rel=1e-3)


def test_the_ramp_by_hand() -> None:
    assert ramp(0, 0) == ramp(4, 4) == ramp(9, 4) == 1.0
    assert ramp(0, 4) == pytest.approx(math.exp(-5))
    assert ramp(2, 4) == pytest.approx(math.exp(-1.25))


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"decay": -0.1}, {"ema_lambda": -1}, {"ramp_up": -1}])
def test_wrong_options(wrong: dict[str, float]) -> None:
    with pytest.raises(LifelongCTError, match=next(iter(wrong))):
        EMATeacher(**wrong)


def test_a_stream_that_tells_no_boundaries_is_learnt_with_a_teacher(tmp_path: Path) -> None:
    options = ["strategy=ema_teacher", "stream=online", "debug=tiny", "reporter=quiet"]
    assert main([*options, f"paths.runs={tmp_path / 'runs'}", f"paths.store={tmp_path / 'store'}"]) == 0
