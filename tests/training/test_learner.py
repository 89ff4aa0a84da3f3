from typing import Any

import pytest
import torch
from tiny import World

from lifelong_ct.avalanche_bridge import SupervisedPlugin


class Recorder(SupervisedPlugin):
    """Notes which hooks fire, and what they see."""

    def __init__(self) -> None:
        super().__init__()
        self.hooks: list[str] = []
        self.seen: list[Any] = []
        for name in dir(SupervisedPlugin):
            if name.startswith(("before_", "after_")):
                setattr(self, name, self._note(name))

    def _note(self, name: str) -> Any:
        def hook(strategy: Any, **kwargs: Any) -> None:
            self.hooks.append(name)
            if name == "before_training_iteration":
                strategy.model.eval()  # as stock plugins leave it
            if name == "before_forward":
                self.seen.append((strategy.model.training, strategy.mb_x.dtype))

        return hook


MICRO_BATCH = ["before_forward", "after_forward", "before_backward"]
ITERATION = [
    "before_training_iteration",
    *MICRO_BATCH,
    *MICRO_BATCH,
    "after_backward",
    "before_update",
    "after_update",
    "after_training_iteration",
]


def test_two_hospitals_are_learnt_one_after_the_other() -> None:
    world = World()
    for experience, channels in enumerate((2, 3)):
        world.losses.clear()
        world.learn(experience, steps=60)
        assert len(world.losses) == 60
        assert sum(world.losses[-5:]) < 0.75 * sum(world.losses[:5])
        assert world.weights()["head.weight"].shape[0] == channels
    assert world.learner.clock.train_exp_counter == 2


def test_hooks_fire_in_avalanche_s_order_once_per_optimizer_step() -> None:
    recorder = Recorder()
    World(recorder, accumulate=2, batch_size=1).learn(0, steps=2)
    assert recorder.hooks == [
        "before_training",
        "before_train_dataset_adaptation",
        "after_train_dataset_adaptation",
        "before_training_exp",
        "before_training_epoch",
        *ITERATION,
        *ITERATION,
        "after_training_epoch",
        "after_training_exp",
        "after_training",
    ]
    assert recorder.seen == [(True, torch.int16)] * 4


def test_a_run_is_the_same_twice() -> None:
    first, second = World(), World()
    for world in (first, second):
        world.learn(0)
        torch.rand(7)  # whatever else draws from the global generator
        world.learn(1)
    assert first.losses == second.losses
    torch.testing.assert_close(first.weights(), second.weights(), rtol=0, atol=0)


@pytest.mark.parametrize("wrong", [{"amp": "fp8"}, {"schedule": "cosine"}, {"amp": "fp16"}])
def test_a_wrong_option_is_refused(wrong: dict[str, str]) -> None:
    from lifelong_ct.core.errors import LifelongCTError

    with pytest.raises(LifelongCTError) as error:
        World(**wrong)
    assert next(iter(wrong)) in error.value.where
