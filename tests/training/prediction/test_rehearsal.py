"""Predicted peaks against PyTorch's own allocator, against a second count, and against their own growth."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hospitals import options, stream
from monai.networks.nets import UNet

from benchmarks.planner import allocated, steps
from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.strategies.der import DER
from lifelong_ct.strategies.ewc import OnlineEWC
from lifelong_ct.strategies.independent import Independent
from lifelong_ct.strategies.lwf import LwF
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.strategies.si import SI
from lifelong_ct.training.prediction.fallback import predict, resized
from lifelong_ct.training.prediction.peaks import Peak, Prediction
from lifelong_ct.training.prediction.rehearsal import rehearse
from lifelong_ct.training.rounds import rounds

PLUGINS = {
    "naive": list,
    "replay": lambda: [Replay(Reservoir(), exemplars_per_batch=1)],
    "ewc": lambda: [OnlineEWC(1.0, patches=2)],
    "lwf": lambda: [LwF(1.0)],
    "si": lambda: [SI(1.0)],
    "der": lambda: [DER(Reservoir())],
}


def network():
    backbone = UNet(3, 1, 4, (8, 16), (2,), norm="INSTANCE")
    return SegmentationModel(backbone, features=4)


def run(folder, plugins=list, hospitals=2, patch=24, **changes):
    made = stream(*({"name": f"h{i}"} for i in range(hospitals)), patch=[patch] * 3)
    opts = options(
        made, folder, new_plugins=plugins, new_model=network, limits={"exemplars": 1 << 20}, **changes
    )
    return replace(opts, evaluation=replace(opts.evaluation, roi=(patch,) * 3))


@pytest.mark.parametrize("name", PLUGINS)
def test_within_the_bounds_of_what_the_allocator_gave(name, tmp_path):
    opts = run(tmp_path, PLUGINS[name])
    ratio = rehearse(opts, rounds(opts)).peak / allocated(lambda: steps(opts))
    assert 0.95 <= ratio <= 1.10


def test_accumulated_and_in_half_precision_too(tmp_path):
    opts = run(tmp_path)
    opts = replace(opts, trainer=replace(opts.trainer, batch_size=2, accumulate=2, amp="bf16"))
    ratio = rehearse(opts, rounds(opts)).peak / allocated(lambda: steps(opts))
    assert 0.95 <= ratio <= 1.10


def test_kinds_by_hand(tmp_path):
    opts = run(tmp_path, PLUGINS["lwf"])
    model = network()
    model.grow(3)
    weights = 4 * sum(p.numel() for p in model.parameters())
    counts = 8 * len(list(model.parameters()))  # a step count of Adam per parameter, at most
    worst = rehearse(opts, rounds(opts)).worst
    assert worst.phase == "training on hospital 2"
    assert worst.kinds["parameters"] == worst.kinds["teacher"] == weights
    assert 2 * weights <= worst.kinds["optimizer"] <= 2 * weights + counts
    assert sum(worst.kinds.values()) == worst.nbytes


def test_nothing_is_left_behind(tmp_path):
    opts = run(tmp_path, PLUGINS["replay"])
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    to = torch.nn.Module.to
    rehearse(opts, rounds(opts))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002
    assert torch.nn.Module.to is to
    assert opts.stream.label_space.channels == []


def test_a_size_that_could_not_run_here_takes_no_more_memory(tmp_path):
    opts = run(tmp_path, PLUGINS["lwf"], patch=768)
    found = rehearse(opts, rounds(opts)).peak
    assert found > 2 * 768**3 * (3 + 4) * 4, "logits and features of two patches alone"


@pytest.mark.parametrize("name", ["ewc", "lwf", "si", "replay"])
def test_bounded_strategies_hold_no_more_after_five_hospitals_than_after_two(name, tmp_path):
    opts = run(tmp_path, PLUGINS[name], hospitals=5, patch=8)
    five = rehearse(opts, rounds(opts), experiences=5)
    two = rehearse(opts, rounds(opts))
    peaks = {p.phase: p.nbytes for p in five.phases}
    assert peaks["training on hospital 5"] == peaks["training on hospital 2"]
    assert two.peak == five.peak
    assert two.growth == 0


def test_what_grows_is_predicted_for_all_hospitals(tmp_path):
    few, many = (run(tmp_path, lambda: [Independent()], hospitals=n, patch=8) for n in (2, 5))
    model = network()
    model.grow(3)
    weights = 4 * sum(p.numel() for p in model.parameters())
    found = [rehearse(opts, rounds(opts)) for opts in (few, many)]
    predicted = [each.peak for each in found]
    second = next(phase.nbytes for phase in found[0].phases if phase.phase == "training on hospital 2")
    assert predicted[1] - second >= 3 * weights, "a network per hospital, and what its router declares"
    seen = rehearse(many, rounds(many), experiences=5)
    assert seen.worst.nbytes <= predicted[1] + 0.01 * weights
    assert seen.growth <= 0.1 * weights, "all of it has grown"
    assert predicted[1] == pytest.approx(seen.peak, rel=0.02)


def test_what_grows_later_is_not_added_to_the_first_hospitals_peak():
    """As of adapters, whose first hospital trains the whole network."""
    phases = [Peak("first", 100, {"gradients": 100}), Peak("second", 60, {"parameters": 60}, last=True)]
    small, large = (Prediction(phases, growth, "") for growth in (30, 50))
    assert (small.peak, small.worst.phase, small.kinds) == (100, "first", {"gradients": 100})
    assert (large.peak, large.worst.phase, large.kinds) == (
        110,
        "second",
        {"parameters": 60, "later hospitals": 50},
    )


class Choosy(StrategyPlugin):
    """Looks at values: its shapes depend on them."""

    def before_backward(self, strategy, **kwargs):
        strategy.loss = strategy.loss + strategy.mb_output[strategy.mb_output > -1e9].mean()


def test_what_needs_data_is_measured_small_and_carried_over(tmp_path):
    opts = run(tmp_path, lambda: [Choosy()], patch=48)
    found = predict(opts, rounds(opts))
    assert found.basis.startswith("measured at 32³ and 64³")
    whole = allocated(lambda: steps(opts))
    assert 0.95 <= found.peak / whole <= 1.10


def test_resized_leaves_the_stream_alone(tmp_path):
    opts = run(tmp_path)
    assert tuple(resized(opts, (8, 8, 16)).stream.patch) == (8, 8, 16)
    assert tuple(resized(opts, (8, 8, 16)).evaluation.roi) == (8, 8, 16)
    assert tuple(opts.stream.patch) == (24, 24, 24)


def test_checkpointing_lowers_activations_and_the_host_takes_the_moments(tmp_path):
    opts = run(tmp_path, patch=32)
    plain = rehearse(opts, rounds(opts), on_cuda=True)
    changed = replace(opts, trainer=replace(opts.trainer, checkpointing=True))
    assert (
        rehearse(changed, rounds(opts), on_cuda=True).worst.kinds["activations"]
        < plain.worst.kinds["activations"]
    )
    hosted = replace(opts, trainer=replace(opts.trainer, optimizer_state="host"))
    assert rehearse(hosted, rounds(opts), on_cuda=True).worst.kinds.get("optimizer", 0) == 0
