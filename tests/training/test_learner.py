from typing import Any

import pytest
import torch
from tiny import World

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.training.augment import Augment


class Recorder(SupervisedPlugin):
    """Notes which hooks fire, and what the model and the voxels are like before each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.hooks: list[str] = []
        self.seen: list[tuple[bool, torch.dtype]] = []
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


class Does(SupervisedPlugin):
    """Calls a function in one hook."""

    def __init__(self, hook: str, action: Any) -> None:
        super().__init__()
        setattr(self, hook, lambda strategy, **kwargs: action(strategy))


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


def test_without_boundaries_only_the_hooks_of_iterations_fire_and_the_clock_goes_on() -> None:
    """What is left is the same training."""
    told, deaf = Recorder(), Recorder()
    worlds = [World(told, batch_size=1), World(deaf, batch_size=1, boundaries=False)]
    for world in worlds:
        world.learn(0, steps=2)
        world.learn(1, steps=1)
    iteration = [name for i, name in enumerate(ITERATION) if i not in (4, 5, 6)]  # one micro-batch
    assert deaf.hooks == iteration * 3
    assert [name for name in told.hooks if name in ITERATION] == iteration * 3
    clocks = [vars(world.learner.clock) for world in worlds]
    assert clocks[0] == clocks[1]
    assert clocks[1]["train_exp_counter"] == 2
    torch.testing.assert_close(worlds[0].weights(), worlds[1].weights(), rtol=0, atol=0)


def test_before_backward_sees_the_undivided_loss() -> None:
    seen: list[float] = []
    keep = Does("before_backward", lambda strategy: seen.append(strategy.loss.item()))
    world = World(keep, batch_size=1, accumulate=2)
    world.learn(0, steps=1)
    assert world.losses == [pytest.approx(sum(seen) / 2)]


def test_a_run_is_the_same_twice() -> None:
    first, second = World(), World()
    for world in (first, second):
        world.learn(0)
        torch.rand(7)  # whatever else draws from the global generator
        world.learn(1)
    assert first.losses == second.losses
    torch.testing.assert_close(first.weights(), second.weights(), rtol=0, atol=0)


def test_what_a_plugin_adds_before_the_forward_pass_is_augmented_with_the_rest() -> None:
    shapes, added = [], torch.full((1, 1, 8, 8, 8), 40, dtype=torch.int16)

    def add(strategy: Any) -> None:
        strategy.mbatch[0] = torch.cat([strategy.mb_x, added])
        strategy.mbatch[1] = torch.cat([strategy.mb_y, torch.zeros_like(strategy.mb_y[:1])])

    def look(strategy: Any) -> None:
        shapes.append((strategy.mb_x.dtype, len(strategy.mb_x), bool((strategy.mb_x[-1] != 40).any())))

    World(Does("before_forward", add), Does("after_forward", look), augment=Augment(noise=5.0)).learn(0, 1)
    assert shapes == [(torch.float32, 3, True)]


def test_poly_schedule_starts_at_the_optimizer_s_rate_in_every_experience() -> None:
    rates: list[float] = []
    world = World(on_step=lambda report: rates.append(report.lr))
    world.learn(0, steps=4)
    world.learn(1, steps=2)
    expected = [0.01 * (1 - t) ** 0.9 for t in (0, 0.25, 0.5, 0.75, 0, 0.5)]
    assert rates == pytest.approx(expected)


def test_clipping_bounds_the_norm_of_the_gradient() -> None:
    norms: list[float] = []

    def norm(strategy: Any) -> None:
        norms.append(float(torch.stack([p.grad.norm() for p in strategy.model.parameters()]).norm()))

    World(Does("after_backward", norm), Does("before_update", norm), clip=1e-3).learn(0, steps=1)
    assert norms[0] > 1e-2
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("wrong", [{"amp": "fp8"}, {"schedule": "cosine"}, {"amp": "fp16"}])
def test_a_wrong_option_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(LifelongCTError) as error:
        World(**wrong)
    assert error.value.where == f"trainer.{next(iter(wrong))}"


def test_bf16_on_the_cpu_computes_logits_in_bf16_and_trains() -> None:
    types = set()
    world = World(Does("after_forward", lambda s: types.add(s.mb_output.dtype)), amp="bf16")
    world.learn(0, steps=60)
    assert types == {torch.bfloat16}
    assert sum(world.losses[-5:]) < 0.75 * sum(world.losses[:5])
    assert all(p.dtype == torch.float32 for p in world.learner.model.parameters())


def test_gradients_are_unscaled_for_plugins_and_a_step_that_overflows_is_skipped() -> None:
    gradients, weights = [], []

    def note(strategy: Any) -> None:
        gradients.append(strategy.model.head.bias.grad.clone())
        weights.append(strategy.model.head.bias.detach().clone())

    def overflow(strategy: Any) -> None:
        if strategy.clock.train_iterations == 1:
            strategy.model.head.bias.register_hook(lambda grad: grad * float("inf"))

    plain = World(Does("after_backward", note))
    plain.learn(0, steps=1)
    scaled = World(Does("before_training_iteration", overflow), Does("after_backward", note))
    scaled.learner.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled.learn(0, steps=2)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert not gradients[2].isfinite().all()
    assert torch.equal(scaled.learner.model.head.bias, weights[2])
    assert scaled.learner.scaler.get_scale() == 512.0


def test_a_loss_that_is_not_finite_names_step_and_cases_and_changes_no_weight() -> None:
    weights: dict[str, torch.Tensor] = {}

    def explode(strategy: Any) -> None:
        if (strategy.clock.train_exp_iterations, strategy.micro_step) == (2, 1):
            weights.update({n: p.detach().clone() for n, p in strategy.model.named_parameters()})
            strategy.loss = strategy.loss * float("nan")

    world = World(Does("before_backward", explode), batch_size=1, accumulate=3)
    with pytest.raises(LifelongCTError) as error:
        world.learn(0, steps=4)
    assert "nan at step 2 of experience 1" in error.value.what
    assert error.value.where == "cases case-0-7"
    assert len(world.losses) == 2
    torch.testing.assert_close(dict(world.learner.model.named_parameters()), weights, rtol=0, atol=0)


def test_the_source_is_closed_after_an_experience_and_after_an_error() -> None:
    closed = []
    world = World(Does("before_update", lambda strategy: 1 / (strategy.clock.train_exp_counter == 0)))

    def batches(start: int, stop: int) -> Any:
        try:
            yield from map(world.sources[0].batch, range(start, stop))
        finally:
            closed.append(stop)

    world.sources[0].batches = world.sources[1].batches = batches  # type: ignore[method-assign]
    world.learn(0, steps=2)
    with pytest.raises(ZeroDivisionError):
        world.learn(1, steps=3)
    assert closed == [2, 3]


def test_a_growing_head_keeps_its_rows_and_the_optimizer_s_other_state() -> None:
    grown: dict[str, Any] = {}

    def note(strategy: Any) -> None:
        if strategy.clock.train_exp_counter == 1 and not grown:
            state = strategy.optimizer.state
            grown.update({n: p.detach().clone() for n, p in strategy.model.named_parameters()})
            grown["moment"] = state[strategy.model.backbone[0].weight]["exp_avg"].clone()
            grown["head's state"] = state[strategy.model.head.weight]

    world = World(Does("before_training_iteration", note), reset_optimizer=False)
    world.learn(0)
    before = world.weights()
    moment = world.learner.optimizer.state[world.learner.model.backbone[0].weight]["exp_avg"].clone()
    world.learn(1, steps=1)
    assert grown["head.weight"].shape[0] == 3
    assert all(torch.equal(grown[name][: len(value)], value) for name, value in before.items())
    assert torch.equal(grown["moment"], moment)
    assert not torch.equal(world.weights()["head.weight"], grown["head.weight"]), (
        "the new head is not optimized"
    )


def test_a_reset_optimizer_forgets_its_moments() -> None:
    steps = []
    world = World(Does("before_update", lambda s: steps.append(len(s.optimizer.state))), reset_optimizer=True)
    world.learn(0, steps=2)
    world.learn(1, steps=2)
    assert [bool(n) for n in steps] == [False, True, False, True]
