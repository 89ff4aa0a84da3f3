"""What EWC, SI, MAS and RWalk have in common."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import World
from torch import nn

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.strategies.ewc import OnlineEWC
from lifelong_ct.strategies.mas import MAS
from lifelong_ct.strategies.quadratic import QuadraticPenalty, blend, laid_out, task_gradient
from lifelong_ct.strategies.rwalk import RWalk
from lifelong_ct.strategies.si import SI
from lifelong_ct.training import checkpoint

METHODS: dict[str, Callable[[], QuadraticPenalty]] = {
    "ewc": lambda: OnlineEWC(100.0, patches=2),
    "ewc, empirical": lambda: OnlineEWC(100.0, patches=2, fisher="empirical"),
    "ewc, sampled": lambda: OnlineEWC(100.0, patches=2, fisher="sampled"),
    "si": lambda: SI(100.0),
    "mas": lambda: MAS(100.0, patches=2),
    "rwalk": lambda: RWalk(100.0, window=2),
    "ewc, bf16": lambda: OnlineEWC(100.0, patches=2, precision="bf16"),
    "si, bf16": lambda: SI(100.0, precision="bf16"),
    "mas, bf16": lambda: MAS(100.0, patches=2, precision="bf16"),
    "rwalk, bf16": lambda: RWalk(100.0, window=2, precision="bf16"),
}
COPIES = {"si": (2, 5), "rwalk": (4, 9)}
"""Of the parameters, with all in float32: held between experiences, and at most."""


def plain_penalty(plugin: QuadraticPenalty, model: nn.Module) -> torch.Tensor:
    """strength · Σ Ω (θ - θ*)², written down for autograd."""
    total = torch.zeros(())
    for name, p in model.named_parameters():
        if name in plugin.importance:
            omega = plugin.importance[name]
            rows = p[: len(omega)]
            total = total + (omega * (rows - plugin.anchor[name][: len(omega)]) ** 2).sum()
    return plugin.strength * total


@pytest.mark.parametrize("method", METHODS)
def test_value_and_gradient_are_those_of_autograd(method: str) -> None:
    plugin = METHODS[method]()
    world = World(plugin)
    world.learn(0, steps=5)
    model = world.learner.model
    model.grow(3)  # type: ignore[operator]
    with torch.no_grad():
        for p in model.parameters():
            p += torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    named = dict(model.named_parameters())
    ours, theirs = plugin.penalty(model), plain_penalty(plugin, model)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert ours.item() > 0
    for got, expected in zip(
        torch.autograd.grad(3 * ours, named.values(), allow_unused=True),
        torch.autograd.grad(3 * theirs, named.values(), allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_importances_are_not_negative_and_not_all_zero(method: str) -> None:
    plugin = METHODS[method]()
    world = World(plugin)
    for experience in (0, 1):
        world.learn(experience, steps=5)
        values = torch.cat([value.flatten() for value in plugin.importance.values()])
        assert values.min() >= 0
        assert values.max() > 0
        assert values.isfinite().all()


@pytest.mark.parametrize("method", ["ewc", "si", "mas", "rwalk"])
def test_importances_in_bf16_are_those_of_float32_to_eight_bits(method: str) -> None:
    plugins = METHODS[method](), METHODS[f"{method}, bf16"]()
    for plugin in plugins:
        World(plugin).learn(0, steps=5)
    whole, rounded = plugins
    for name, omega in whole.importance.items():
        assert rounded.importance[name].dtype == torch.bfloat16
        torch.testing.assert_close(rounded.importance[name].float(), omega, rtol=2**-8, atol=0)
        assert torch.equal(rounded.anchor[name], whole.anchor[name])


def test_another_precision_is_refused() -> None:
    with pytest.raises(LifelongCTError, match="precision='fp16'"):
        OnlineEWC(1.0, precision="fp16")


@pytest.mark.parametrize("method", METHODS)
def test_twenty_hospitals_hold_what_two_do(method: str) -> None:
    plugin, ledger = METHODS[method](), Ledger()
    world = World(plugin, bind={"ledger": ledger})
    held = []
    for experience in [0] + [1] * 19:
        world.learner.experience = None
        world.learn(experience, steps=1)
        held.append((ledger.held("gpu"), plugin.held_bytes()["gpu"], checkpoint_bytes(plugin)))
    parameters = 4 * sum(p.numel() for p in world.learner.model.parameters())
    name = method.removesuffix(", bf16")
    saved = parameters // 2 if name != method else 0
    between, most = (copies * parameters - saved for copies in COPIES.get(name, (2, 2)))
    assert held[1] == held[19] == (between,) * 3
    assert plugin.declared_bytes(parameters) == {"gpu": most}
    assert ledger.peak("gpu") == most


def checkpoint_bytes(plugin: QuadraticPenalty) -> int:
    return sum(t.numel() * t.element_size() for tree in plugin.state_dict().values() for t in tree.values())


@pytest.mark.parametrize("method", METHODS)
def test_a_fresh_learner_goes_on_from_a_checkpoint_to_the_same_weights(tmp_path: Path, method: str) -> None:
    options: dict[str, Any] = {"optimizer": partial(torch.optim.AdamW, lr=3e-2), "clip": 1.0}
    whole = World(METHODS[method](), **options)
    whole.learn(0, steps=7)
    checkpoint.save(tmp_path / "after_001", whole.state_dict())
    whole.learn(1, steps=7)
    resumed = World(METHODS[method](), **options)
    resumed.load_state_dict(checkpoint.load(tmp_path / "after_001"))
    resumed.learn(1, steps=7)
    assert resumed.losses == whole.losses[7:]
    naive = World(**options)
    naive.learn(0, steps=7)
    naive.learn(1, steps=7)
    assert naive.losses[7:] != whole.losses[7:], "the strategy had no part in it"
    for name, value in whole.weights().items():
        assert torch.equal(resumed.weights()[name], value)
    for first, second in zip(
        whole.state_dict()["plugins"][0].values(), resumed.state_dict()["plugins"][0].values(), strict=True
    ):
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", METHODS)
def test_micro_batches_do_not_count_the_penalty_twice(method: str) -> None:
    """Four of one patch give the importances and weights of one batch of four, up to rounding."""
    one, four = METHODS[method](), METHODS[method]()
    worlds = [
        World(one, batch_size=4, optimizer=partial(torch.optim.SGD, lr=0.05)),
        World(four, batch_size=1, accumulate=4, optimizer=partial(torch.optim.SGD, lr=0.05)),
    ]
    for world in worlds:
        world.learner.held_out_patches = partial(same_patches, world)  # type: ignore[method-assign]
        world.learn(0, steps=2)
        world.learn(1, steps=2)
    for name, value in worlds[0].weights().items():
        torch.testing.assert_close(worlds[1].weights()[name], value, rtol=1e-4, atol=1e-5)


def same_patches(world: World, count: int) -> Any:
    """The learner's own depend on the size of a batch."""
    for i in range(count):
        x, y, _ = world.sources[0].patch(1000 + i)
        yield x[None], y[None]


class TaskGradients(SupervisedPlugin):
    """Keeps what `task_gradient` says and what autograd says of the criterion alone."""

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        loss = strategy._criterion(strategy.model(strategy.mb_x), strategy.mb_y)
        self.expected = torch.autograd.grad(loss, list(strategy.model.parameters()))

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        out = {n: torch.full_like(p, torch.nan) for n, p in strategy.model.named_parameters()}
        self.found = task_gradient(strategy, out)
        self.all = [p.grad.clone() for p in strategy.model.parameters()]


def test_the_task_s_gradient_has_no_penalty_in_it_whoever_added_it() -> None:
    spy = TaskGradients()
    world = World(OnlineEWC(50.0, patches=2), spy, SI(50.0), RWalk(5.0))
    check_task_gradients(world, spy)


def test_nor_has_it_that_of_a_single_penalty() -> None:
    spy = TaskGradients()
    check_task_gradients(World(OnlineEWC(50.0, patches=2), spy), spy)


def check_task_gradients(world: World, spy: TaskGradients) -> None:
    world.learn(0, steps=5)
    world.learn(1, steps=5)
    pulled = 0.0
    for found, expected, whole in zip(spy.found.values(), spy.expected, spy.all, strict=True):  # type: ignore[union-attr]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
        pulled = max(pulled, (whole - expected).abs().max().item())
    assert pulled > 1e-3, "the penalties had a gradient"


def test_a_step_that_fp16_will_skip_has_no_gradient() -> None:
    weight = nn.Parameter(torch.ones(2))
    model = nn.Module()
    model.weight = weight
    strategy = SimpleNamespace(
        model=model, plugins=[], scaler=torch.amp.GradScaler("cpu", enabled=True, init_scale=2.0)
    )
    weight.grad = torch.tensor([1.0, float("inf")])
    out = {"weight": torch.zeros(2)}
    assert task_gradient(strategy, out) is None
    weight.grad = torch.tensor([1.0, 2.0])
    assert list(task_gradient(strategy, out) or {}) == ["weight"]
    assert out["weight"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("method", ["si", "mas", "rwalk", "ewc"])
def test_what_does_not_learn_is_left_alone(method: str) -> None:
    """As with a frozen encoder: no gradient, no way, no importance."""
    plugin = METHODS[method]()
    world = World(plugin)
    frozen = dict(world.learner.model.named_parameters())["backbone.0.weight"].requires_grad_(False)
    before = frozen.clone()
    for experience in (0, 1):
        world.learn(experience, steps=3)
        assert not plugin.importance["backbone.0.weight"].any()
        assert plugin.importance["backbone.3.weight"].any()
    assert torch.equal(frozen, before)


def test_the_state_lies_in_memory_as_the_parameter_does() -> None:
    parameter = torch.rand(4, 3, 2, 2, 2).contiguous(memory_format=torch.channels_last_3d)
    value = torch.rand(2, 3, 2, 2, 2)
    placed = laid_out(value, parameter)
    assert torch.equal(placed, value)
    assert placed.stride() == parameter.stride()
    assert laid_out(placed, parameter) is placed


def test_blending_keeps_new_rows() -> None:
    new = {"head": torch.tensor([1.0, 1.0, 1.0]), "scalar": torch.tensor(2.0)}
    old = {"head": torch.tensor([4.0, 8.0]), "scalar": torch.tensor(4.0), "gone": torch.ones(1)}
    blended = blend(new, old, keep=0.5)
    assert blended["head"].tolist() == [3.0, 5.0, 1.0]
    assert blended["scalar"].item() == 4.0
    assert list(blended) == ["head", "scalar"]
