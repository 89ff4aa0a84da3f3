"""Fused optimizers and compiled networks do what the plain ones do."""

from functools import partial
from typing import Any

import pytest
import torch
from tiny import World, model

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.uniqueness import Uniqueness
from lifelong_ct.strategies.lora import LoRA
from lifelong_ct.strategies.plop import PLOP
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.training.stepping import compile_network, fusing

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ADAMW = partial(torch.optim.AdamW, lr=1e-2)


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2))]


def fused(make: Any) -> bool:
    return bool(make(weights()).defaults.get("fused"))


@pytest.mark.parametrize(
    ("wanted", "device", "expected"),
    [("auto", CPU, False), ("auto", CUDA, True), (True, CPU, True), (False, CUDA, False)],
)
def test_auto_is_fused_on_cuda(wanted: bool | str, device: torch.device, expected: bool) -> None:
    for kind in (torch.optim.AdamW, torch.optim.SGD):
        assert fused(fusing(partial(kind, lr=0.1), wanted, device)) == expected


def test_what_the_optimizer_says_itself_stays() -> None:
    assert not fused(fusing(partial(ADAMW, foreach=True), "auto", CUDA))
    assert not fused(fusing(partial(ADAMW, fused=False), "auto", CUDA))


def test_an_optimizer_without_a_kernel_is_left_alone_or_refused() -> None:
    rms = partial(torch.optim.RMSprop, lr=0.1)
    assert fusing(rms, "auto", CUDA) is rms
    with pytest.raises(LifelongCTError) as error:
        fusing(rms, True, CPU)
    assert error.value.where == "trainer.fused"


def test_fused_trains_as_the_loop_does_up_to_rounding() -> None:
    sgd = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    plain, quick = World(optimizer=sgd), World(optimizer=fusing(sgd, True, CPU))
    for world in (plain, quick):
        world.learn(0, steps=5)
    torch.testing.assert_close(plain.weights(), quick.weights(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("first", "then"), [(False, True), (True, False)])
def test_a_state_of_the_one_goes_on_in_the_other(first: bool, then: bool) -> None:
    """As when a run moves from a GPU to a CPU: moments and steps are taken over, the kernel is that of the new place."""
    before = World(optimizer=fusing(ADAMW, first, CPU), reset_optimizer=False)
    before.learn(0, steps=3)
    after = World(optimizer=fusing(ADAMW, then, CPU), reset_optimizer=False)
    after.load_state_dict(before.state_dict())
    assert bool(after.learner.optimizer.param_groups[0]["fused"]) == then
    before.learn(1, steps=1)
    after.learn(1, steps=1)
    head = "head.weight"
    torch.testing.assert_close(before.weights()[head], after.weights()[head], rtol=1e-4, atol=1e-5)


def compiled() -> torch.nn.Module:
    made = model()
    compile_network(made, backend="aot_eager")  # the same graphs, without a C++ compiler
    return made


@pytest.mark.parametrize("strategy", ["naive", "replay", "plop"])
def test_a_compiled_network_trains_to_the_same_weights_and_strategies_see_its_layers(strategy: str) -> None:
    plugins: dict[str, Any] = {
        "naive": list,
        "replay": lambda: [Replay(Uniqueness())],
        "plop": lambda: [PLOP(patches=2)],
    }
    sgd = partial(torch.optim.SGD, lr=0.05)
    worlds = [World(*plugins[strategy](), model=made, optimizer=sgd) for made in (model(), compiled())]
    for world in worlds:
        world.learn(0, steps=2)
        world.learn(1, steps=2)
    assert worlds[0].weights().keys() == worlds[1].weights().keys()
    torch.testing.assert_close(worlds[0].weights(), worlds[1].weights(), rtol=1e-4, atol=1e-5)


def test_a_model_with_parts_is_not_compiled() -> None:
    world = World(LoRA())
    with pytest.raises(LifelongCTError) as error:
        compile_network(world.plugins[0].shape(model()))
    assert error.value.where == "trainer.compile"
