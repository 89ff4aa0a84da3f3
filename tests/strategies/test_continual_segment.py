from typing import Any

import pytest
import torch
from isolated import ORGANS, learn, world
from tiny import PATCH
from torch import nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.strategies.continual_segment import ContinualSegment

X = torch.randint(-300, 300, (1, 1, 8, 8, 8), dtype=torch.int16)
DECODER = {"backbone.up.weight": 4 * 4 * 8, "backbone.out.weight": 4 * 4}
REST = 4 + 4  # biases of the decoder, without the head


class TwoGrids(nn.Module):
    """Down, normalise, up, out."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv3d(1, 4, 2, stride=2)
        self.norm = nn.BatchNorm3d(4)
        self.up = nn.ConvTranspose3d(4, 4, 2, stride=2)
        self.out = nn.Conv3d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.up(self.norm(self.down(x)).relu()).relu())


def made() -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(TwoGrids(), features=4)


def segment(plugin: Any, *arrivals: Any, **bind: Any) -> Any:
    return world(plugin, *arrivals, bind={"new_model": made, **bind}, model=made())


def test_old_decoders_answer_to_the_bit_as_before() -> None:
    arrivals = [("first", ("liver",)), ("second", ORGANS), ("third", ("spleen",))]
    run = segment(ContinualSegment(), *arrivals)
    run.learn(0, steps=4)
    network, before = run.learner.model.eval(), []
    for later in (1, 2):
        before.append(network.answer(later - 1, X).clone())
        run.learn(1, steps=4)
        network.eval()
        for part, logits in enumerate(before):
            assert torch.equal(network.answer(part, X), logits)
    assert network(X).shape[1] == 3


def test_the_encoder_stays_with_its_running_statistics_and_each_decoder_begins_from_scratch() -> None:
    run = segment(ContinualSegment(sparsity=0.0))
    run.learn(0, steps=4)
    first = run.weights()
    shared = [name for name in first if name.startswith(("network.backbone.down", "network.backbone.norm"))]
    assert any("running_var" in name for name in shared)
    start = {name: value.clone() for name, value in made().state_dict().items()}
    assert not torch.equal(first["network.backbone.down.weight"], start["backbone.down.weight"])
    run.learn(1, steps=0)
    assert torch.equal(run.learner.model.parts[1].get("backbone.up.weight"), start["backbone.up.weight"])
    run = segment(ContinualSegment(sparsity=0.0))
    learn(run, 2, steps=4)
    assert all(torch.equal(run.weights()[name], first[name]) for name in shared)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8])
def test_a_decoder_has_as_many_zeros_as_were_asked_for(sparsity: float) -> None:
    run = segment(ContinualSegment(sparsity))
    learn(run, 2, steps=4)
    for part in run.learner.model.parts:
        values = part.values()
        kept = sum(int((values[name] != 0).sum()) for name in DECODER)
        assert kept == sum(DECODER.values()) - int(sparsity * sum(DECODER.values()))
        assert part.kept().keys() == DECODER.keys()
        assert sum(part.kept().values()) == kept
        assert all((values[name] != 0).all() for name in ("head.weight", "backbone.up.bias"))


def test_what_is_pruned_stays_zero_while_the_rest_goes_on() -> None:
    plugin = ContinualSegment(0.5, prune_after=0.25)
    run = segment(plugin)
    seen: list[torch.Tensor] = []
    original = plugin.after_update

    def after_update(strategy: Any, **kwargs: Any) -> None:
        original(strategy, **kwargs)
        seen.append(strategy.model.newest().get("backbone.up.weight").detach().clone())

    plugin.after_update = after_update  # type: ignore[method-assign]
    run.learn(0, steps=4)
    assert (seen[0] == 0).any()
    assert torch.equal(seen[0] == 0, seen[3] == 0)
    assert not torch.equal(seen[0], seen[3])


@pytest.mark.parametrize("count", [2, 5])
def test_bytes_follow_the_formula(count: int) -> None:
    """144 weights and 8 biases a decoder, its head 4 → 3; encoder 4 · 8 + 4 and a normalisation of 4 channels."""
    ledger, plugin = Ledger(), ContinualSegment(0.8)
    run = segment(plugin, *((f"h{i}", ORGANS) for i in range(count)), ledger=ledger)
    run.space.see(ORGANS)
    learn(run, count, steps=2)
    part = 4 * (144 - 115) + 128 // 8 + 16 // 8 + 4 * REST + 4 * (3 * 4 + 3)
    encoder = 4 * (4 * 8 + 4) + 4 * 4 * 4 + 8
    real = sum(t.numel() * t.element_size() for t in run.learner.model.state_dict().values())
    assert real == encoder + count * part
    assert plugin.held_bytes() == {"gpu": (count - 1) * part}
    assert plugin.declared_bytes(0) == {"gpu": (count - 1) * part + 144}
    assert ledger.holders("gpu") == {"ContinualSegment decoders": (count - 1) * part}
    assert ledger.peak("gpu") == (count - 1) * part + 144  # a byte per weight while it is pruned


def test_a_window_is_planned_for() -> None:
    plugin = ContinualSegment()
    segment(plugin)
    decoder = 4 * (144 + REST + 3 * 4 + 3)
    assert plugin.inference_bytes(PATCH, 3) == {"gpu": decoder + 3 * 4 * 3 * 8**3}


@pytest.mark.parametrize("done", [1, 2])
def test_going_on_from_a_state_is_the_same(done: int) -> None:
    arrivals = [("first", ("liver",)), ("second", ORGANS), ("third", ORGANS)]
    whole = segment(ContinualSegment(), *arrivals)
    learn(whole, done, steps=4)
    half = segment(ContinualSegment(), *arrivals)
    half.load_state_dict(whole.state_dict())
    for run in (whole, half):
        run.learn(1, steps=4)
    assert whole.losses[-4:] == half.losses
    assert whole.weights().keys() == half.weights().keys()
    assert all(torch.equal(v, half.weights()[n]) for n, v in whole.weights().items())


def test_a_network_without_an_encoder_is_refused_before_it_trains() -> None:
    with pytest.raises(LifelongCTError, match="no encoder"):
        world(ContinualSegment())


@pytest.mark.parametrize(
    "wrong",
    [
        *({"sparsity": value} for value in (1, -0.1, True, None, float("nan"))),
        *({"prune_after": value} for value in (1.5, "0.5")),
        *({"encoder": value} for value in ("backbone.*", [], 3, [3])),
    ],
)
def test_wrong_arguments_are_told(wrong: dict) -> None:
    with pytest.raises(LifelongCTError, match=r"sparsity|prune_after|encoder"):
        ContinualSegment(**wrong)
