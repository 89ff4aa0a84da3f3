"""Out of memory within a step: the same step again with fewer samples at once. On the CPU the error is injected."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from avalanche.training.plugins import EWCPlugin, ReplayPlugin
from tiny import World
from torch import nn

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.memory.selection.uniqueness import Uniqueness
from lifelong_ct.strategies.agem import AGEM
from lifelong_ct.strategies.der import DER
from lifelong_ct.strategies.ema_teacher import EMATeacher
from lifelong_ct.strategies.latent_replay import LatentReplay
from lifelong_ct.strategies.lwf import LwF
from lifelong_ct.strategies.online_memory import OnlineMemory
from lifelong_ct.strategies.plop import PLOP
from lifelong_ct.strategies.prototypes import Prototypes
from lifelong_ct.strategies.pseudo_labels import PseudoLabels
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.strategies.rwalk import RWalk
from lifelong_ct.strategies.si import SI
from lifelong_ct.training.augment import Augment
from lifelong_ct.training.out_of_memory import in_parts, is_out_of_memory, loss_in_parts, told

STRATEGIES: dict[str, Callable[[], list[Any]]] = {
    "naive": list,
    "replay": lambda: [Replay(Reservoir())],
    "agem": lambda: [AGEM(Reservoir(), exemplars_per_step=2)],
    "dynamic memory": lambda: [OnlineMemory(Uniqueness())],
    "der++": lambda: [DER(Reservoir(), beta=0.5, exemplars_per_batch=2)],
    "prototypes": lambda: [Prototypes(patches=2)],
    "plop": lambda: [PLOP(patches=2)],
    "si": lambda: [SI(100.0)],
    "rwalk": lambda: [RWalk(100.0, window=2)],
    "lwf, pseudo-labels": lambda: [LwF(lwf_lambda=1.0), PseudoLabels()],
    "ema teacher": lambda: [EMATeacher()],
    "stock EWC": lambda: [EWCPlugin(100.0, mode="online", decay_factor=0.9)],
    "stock replay": lambda: [ReplayPlugin(mem_size=4)],
}


SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
"""Adam makes steps of rounding where the gradient is 0."""


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee PYTORCH_ALLOC_CONF")


class Fails(StrategyPlugin):
    """Runs out of memory once in a hook, or in the backward pass after it."""

    def __init__(self, place: str, step: int) -> None:
        super().__init__()
        self.place, self.step, self.failed = place, step, Once()

    def __getattribute__(self, name: str) -> Any:
        place = super().__getattribute__("__dict__").get("place")
        if name == ("before_backward" if place == "backward" else place):
            return super().__getattribute__("_fail")
        return super().__getattribute__(name)

    def _fail(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_iterations != self.step or self.failed.already:
            return
        if self.place == "backward":
            strategy.mb_output.register_hook(lambda gradient: self.failed.now())
        else:
            self.failed.now()


class Once:
    """Not a container: nothing of it is taken back."""

    already = False

    def now(self) -> None:
        self.already = True
        raise out_of_memory()


def limited(world: World, most: int) -> None:
    """A device whose network holds `most` samples' activations."""

    def look(module: nn.Module, args: Any) -> None:
        if module.training and torch.is_grad_enabled() and len(args[0]) > most:
            raise out_of_memory()

    world.learner.model.backbone.register_forward_pre_hook(look)


def trained(*plugins: Any, most: int | None = None, **options: Any) -> World:
    world = World(*plugins, augment=Augment(noise=5.0, shift=5.0), optimizer=SGD, **options)
    world.notes = []
    world.learner.on_note = world.notes.append
    if most is not None:
        limited(world, most)
    world.learn(0, steps=3)
    world.learn(1, steps=3)
    return world


def same(one: World, other: World) -> None:
    torch.testing.assert_close(one.weights(), other.weights(), rtol=1e-4, atol=1e-5)
    assert one.losses == pytest.approx(other.losses, rel=1e-4)
    assert vars(one.learner.clock) == vars(other.learner.clock)
    assert (one.learner.drawn, one.learner.again) == (other.learner.drawn, other.learner.again)


def memories(world: World) -> Iterator[Any]:
    for plugin in world.plugins:
        if memory := getattr(plugin, "memory", None):
            yield memory.drawn, memory.nbytes, sorted(exemplar.id for exemplar, _ in memory.held())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_sample_at_a_time_trains_to_the_same_weights(strategy: str) -> None:
    whole, split = trained(*STRATEGIES[strategy]()), trained(*STRATEGIES[strategy](), most=1)
    assert whole.notes == []
    assert split.learner.at_once == 1
    same(split, whole)
    assert [plugin.replayed() for plugin in split.plugins] == [plugin.replayed() for plugin in whole.plugins]
    if strategy != "dynamic memory":  # numbers of a description differ by rounding
        assert list(memories(split)) == list(memories(whole))


@pytest.mark.parametrize(
    "place", ["before_training_iteration", "before_forward", "after_forward", "before_backward", "backward"]
)
@pytest.mark.parametrize("strategy", ["naive", "replay", "dynamic memory", "stock replay", "der++"])
def test_wherever_it_happens_the_step_is_made_again_as_if_nothing_had_been(strategy: str, place: str) -> None:
    """In the second experience: memories are in use. The plugin that fails stands behind: the others have worked."""
    whole = trained(*STRATEGIES[strategy](), batch_size=2, accumulate=2)
    failed = trained(*STRATEGIES[strategy](), Fails(place, step=4), batch_size=2, accumulate=2)
    assert len(failed.notes) == 1
    same(failed, whole)
    assert [plugin.replayed() for plugin in failed.plugins[:-1]] == [p.replayed() for p in whole.plugins]
    if strategy != "dynamic memory":
        assert list(memories(failed)) == list(memories(whole))


def test_the_note_says_what_changes_and_what_does_not() -> None:
    assert trained(most=1).notes == [
        "out of GPU memory at step 0 of experience 1: micro-batches of 1 instead of 2, accumulated over 2; the effective "
        "batch stays 2"
    ]


@pytest.mark.parametrize(("strategy", "passes"), [("naive", 2), ("si", 4)])
def test_only_where_a_plugin_may_look_at_the_whole_parts_are_computed_twice(
    strategy: str, passes: int
) -> None:
    seen: list[int] = []
    world = World(*STRATEGIES[strategy]())
    world.learner.at_once = 1
    world.learner.model.backbone.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    world.learn(0, steps=1)
    assert seen == [1] * passes


def test_what_fits_is_found_again_by_halves_and_kept() -> None:
    world = trained(most=2, batch_size=8)
    assert world.learner.at_once == 2
    assert [note.split(": ")[1].split(",")[0] for note in world.notes] == [
        "micro-batches of 4 instead of 8",
        "micro-batches of 2 instead of 4",
    ]
    resumed = World(batch_size=8, optimizer=SGD)
    resumed.load_state_dict(world.state_dict())
    assert resumed.learner.at_once == 2


def test_when_one_sample_does_not_fit_the_error_says_what_would_and_the_weights_are_those_of_before() -> None:
    world = World()
    world.learn(0, steps=2)
    before = world.weights()
    world.learner.check_model_and_optimizer()
    grown = world.weights()
    limited(world, 0)
    with pytest.raises(LifelongCTError) as error:
        world.learn(1)
    assert "1 samples at once" in error.value.what
    assert "stream.patch" in error.value.fix
    after = world.weights()
    assert all(torch.equal(after[name][: len(value)], value) for name, value in before.items())
    assert grown.keys() == after.keys()


def test_a_plugin_that_works_on_the_whole_batch_is_named() -> None:
    with pytest.raises(LifelongCTError) as error:
        trained(LatentReplay(Reservoir(), patches=2), most=1)
    assert "LatentReplay cannot split a micro-batch" in error.value.fix


def test_other_errors_pass() -> None:
    world = World()

    def wrong(module: nn.Module, args: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    world.learner.model.backbone.register_forward_pre_hook(wrong)
    with pytest.raises(RuntimeError, match="mat1"):
        world.learn(0)
    assert world.learner.at_once is None


def test_libraries_of_cuda_have_their_own_words_for_it() -> None:
    for text in ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory"):
        assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert not is_out_of_memory(MemoryError("out of memory"))


def test_outside_of_a_step_it_becomes_an_error_with_a_fix() -> None:
    with pytest.raises(LifelongCTError) as error, told("evaluating", "use a smaller evaluation.roi"):
        raise out_of_memory()
    assert (
        error.value.what
        == "out of GPU memory while evaluating: CUDA out of memory. Tried to allocate 2.00 GiB."
    )
    with pytest.raises(ValueError), told("evaluating", ""):
        raise ValueError


def test_parts_are_computed_once_more_for_the_gradient_and_hold_one_part_s_activations() -> None:
    """Saved bytes of a pass: those of its parts' inputs instead of every activation."""
    torch.manual_seed(0)
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(8)))
    x = torch.randn(4, 64)

    def saved(most: int | None) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            in_parts(layers, x, most)
        return sum(sizes)

    assert saved(1) < saved(None) / 8
    one, other = in_parts(layers, x, None), in_parts(layers, x, 3)
    torch.testing.assert_close(one, other)
    wanted, found = (
        torch.autograd.grad(out.square().mean(), list(layers.parameters())) for out in (one, other)
    )
    torch.testing.assert_close(wanted, found)


def test_the_loss_in_parts_is_the_mean_over_samples_and_so_is_its_gradient() -> None:
    logits = torch.randn(5, 3, 4, requires_grad=True)
    y = torch.randint(0, 3, (5, 4))
    whole = nn.functional.cross_entropy(logits, y)
    split = loss_in_parts(nn.functional.cross_entropy, logits, y, 2)
    torch.testing.assert_close(whole, split)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits) for loss in (whole, split)))


def test_running_statistics_move_once_per_part_and_random_layers_draw_the_same_again() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Dropout(0.5))
    twin = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Dropout(0.5))
    twin.load_state_dict(net.state_dict())
    x = torch.randn(2, 1, 3, 3, 3)
    torch.manual_seed(1)
    split = in_parts(net, x, 1)
    split.square().mean().backward()
    torch.manual_seed(1)
    wanted = torch.cat([twin(x[:1]), twin(x[1:])])
    wanted.square().mean().backward()
    torch.testing.assert_close(split, wanted)
    torch.testing.assert_close(net[0].weight.grad, twin[0].weight.grad)
    torch.testing.assert_close(net[1].running_var, twin[1].running_var)
