import copy
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import tensors_benchmark
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import der as stock
from test_partial_labels import LIVER, two_hospitals
from tiny import World, context
from torch import nn
from torch.utils.data import TensorDataset
from toy import PerVoxel, Softmax, Source, ToyLearner, three_classes

from lifelong_ct.avalanche_bridge import AvalancheDataset, SupervisedPlugin, benchmark_from_datasets
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.memory.exemplars import Origin
from lifelong_ct.memory.parts import pack
from lifelong_ct.memory.selection import Description
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.strategies.der import DER, apart, dark, rounded
from lifelong_ct.strategies.pseudo_labels import PseudoLabels
from lifelong_ct.training.augment import Augment

ROOM = {"exemplar_bytes": 1 << 20}


class Spy(SupervisedPlugin):
    """Stands behind the method: what was seen, what was added to the loss, and the model of then."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[dict[str, Any]] = []
        self.given: list[torch.Tensor] = []

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.given = []
        self.hook = strategy.model.register_forward_pre_hook(lambda _, args: self.given.append(args[0]))

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.hook.remove()
        added = (strategy.loss - strategy.criterion()).item()
        own = {"x": strategy.mb_x, "y": strategy.mb_y, "added": added, "model": copy.deepcopy(strategy.model)}
        self.steps.append(own | {"given": self.given, "width": strategy.mb_output.shape[1]})


def test_two_voxels_by_hand() -> None:
    """Logits (1,3) and (2,0) then; (0,4) and (1,1) now, and a third channel that came later."""
    then = torch.tensor([[1.0, 2.0], [3.0, 0.0]]).view(1, 2, 1, 1, 2)
    now = torch.tensor([[0.0, 1.0], [4.0, 1.0], [9.0, -7.0]]).view(3, 1, 1, 2)
    assert dark(then, 1).flatten().tolist() == [-1, 1, 1, -1]
    # now: (-2, 2) and (0, 0); squared distances 1, 1, 1, 1
    assert apart(now, dark(then, 1)[0], 1).item() == pytest.approx(1.0)
    # as one block, then: the mean of (-1,1) and (1,-1) is (0,0); now (-1,1)
    assert dark(then, 2).flatten().tolist() == [0, 0]
    assert apart(now, dark(then, 2)[0], 2).item() == pytest.approx(1.0)


def test_blocks_at_the_rim_are_means_of_the_voxels_that_are_there() -> None:
    z = np.random.default_rng(0).normal(size=(3, 5, 4, 6))
    flat = z - z.mean(0)
    found = dark(torch.from_numpy(z)[None], 4)[0]
    assert found.shape == (3, 2, 1, 2)
    for i in range(2):
        for k in range(2):
            block = flat[:, 4 * i : 4 * i + 4, :, 4 * k : 4 * k + 4]
            np.testing.assert_allclose(found[:, i, 0, k].numpy(), block.mean((1, 2, 3)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("stride", [1, 4])
def test_the_number_of_voxels_does_not_matter(stride: int) -> None:
    torch.manual_seed(0)
    new, old = torch.randn(4, 16, 16, 16), torch.randn(1, 3, 16, 16, 16)
    small = apart(new, dark(old, stride)[0], stride)
    large = apart(new.repeat(1, 2, 2, 2), dark(old.repeat(1, 1, 2, 2, 2), stride)[0], stride)
    torch.testing.assert_close(small, large)


def test_what_no_softmax_sees_costs_nothing() -> None:
    torch.manual_seed(0)
    old = torch.randn(1, 3, 4, 4, 4)
    shifted = torch.cat([old + torch.randn(1, 1, 4, 4, 4), torch.randn(1, 2, 4, 4, 4)], 1)
    assert apart(shifted[0], dark(old, 1)[0], 1).item() == pytest.approx(0, abs=1e-10)


def test_stored_logits_are_the_answer_to_the_stored_voxels_though_these_were_augmented() -> None:
    der, spy = DER(Reservoir(), stride=2), Spy()
    augment = Augment(noise=30.0, shift=50.0, scale=0.2, mirror=(1, 2))
    world = World(der, spy, bind=ROOM, augment=augment)
    world.learn(0, steps=4)
    held = list(der.memory.held())
    assert len(held) == 8
    mirrored = 0
    for i, (exemplar, parts) in enumerate(held):
        step, row = spy.steps[i // 2], i % 2
        assert exemplar.origin.case == f"case-0-{i}"
        assert (parts["x"].dtype, parts["logits"].dtype) == (torch.int16, torch.float16)
        torch.testing.assert_close(parts["x"].float(), step["x"][row], rtol=0, atol=0.5)
        assert torch.equal(parts["y"], step["y"][row])
        mirrored += not torch.equal(parts["y"], world.sources[0].patch(i)[1])
        with torch.no_grad():
            answer = dark(step["model"](parts["x"][None]), 2)[0]
        torch.testing.assert_close(parts["logits"].float(), answer, rtol=0, atol=1 / 32 + 5e-3)
    assert mirrored > 1


def test_exemplars_of_earlier_hospitals_are_replayed_as_stored_beside_the_batch() -> None:
    der, spy = DER(Reservoir(), exemplars_per_batch=3), Spy()
    world = World(der, spy, bind=ROOM, augment=Augment(noise=30.0, mirror=(1, 2)))
    world.learn(0, steps=3)
    assert all(len(step["given"]) == 1 and step["added"] == 0 for step in spy.steps)
    stored = [parts["x"] for _, parts in der.memory.held()]
    spy.steps.clear()
    world.learn(1, steps=3)
    for step in spy.steps:
        assert len(step["x"]) == 2
        own, past = step["given"]
        assert torch.equal(own, step["x"])
        assert len(past) == 3
        assert all(any(torch.equal(patch, x) for x in stored) for patch in past)


@pytest.mark.parametrize(("alpha", "beta"), [(0.7, 0.0), (0.7, 0.4)])
def test_the_loss_of_the_second_hospital_is_eq_6_and_7(alpha: float, beta: float) -> None:
    """By hand from what is held; a head of three channels distils the two of then."""
    der, spy = DER(Reservoir(), alpha, beta, stride=2, exemplars_per_batch=2), Spy()
    world = World(der, spy, bind=ROOM)
    world.learn(0, steps=3)
    held = {p["x"].numpy().tobytes(): p for _, p in der.memory.held()}
    world.learn(1, steps=2)
    for step in spy.steps[3:]:
        past = [held[x.numpy().tobytes()] for x in step["given"][1]]
        with torch.no_grad():
            logits = step["model"](torch.stack([p["x"] for p in past]))
        assert logits.shape[1] == 3
        flat = logits[:, :2] - logits[:, :2].mean(1, keepdim=True)
        pooled = flat.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).mean((-1, -2, -3))
        expected = alpha * ((pooled - torch.stack([p["logits"] for p in past]).float()) ** 2).mean().item()
        codes = torch.stack([p["y"] for p in past])
        expected += beta * world.learner._criterion(logits, codes).item()
        assert step["added"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert expected > 1e-4


@pytest.mark.parametrize("sharing", ["forbid", "features"])
def test_who_shares_no_patches_leaves_neither_voxels_nor_logits(sharing: str) -> None:
    der = DER(Reservoir())
    world = World(der, bind={"sharing": {"first": sharing, "second": "patches"}})
    world.learn(0, steps=2)
    assert len(der.memory) == 0
    world.learn(1, steps=2)
    assert len(der.memory) > 0


def test_logits_are_inside_the_budget_and_coarser_ones_leave_room_for_more_patches() -> None:
    count = {}
    for stride in (1, 4):
        der = DER(Reservoir(), stride=stride)
        world = World(der, bind={"exemplar_bytes": 20_000})
        world.learn(0, steps=10)
        assert der.held_bytes()["exemplars"] <= 20_000
        assert der.declared_bytes(0)["exemplars"] == 20_000
        count[stride] = len(der.memory)
    assert count[4] > count[1] > 0


def test_the_labels_of_a_hospital_without_the_liver_never_push_it_down() -> None:
    der = DER(Reservoir(), alpha=0.0, beta=1.0)
    world = two_hospitals(der, bind=ROOM)
    for hospital in (0, 1):
        world.learn(hospital, steps=3)
    past = [parts for exemplar, parts in der.memory.held() if exemplar.origin.hospital == "second"]
    seen: list[torch.Tensor] = []
    world.learner.model.head.register_forward_hook(
        lambda *given: seen.append(given[2]) or given[2].retain_grad()
    )
    der.loss(world.learner, past).backward()
    codes = torch.stack([parts["y"] for parts in past])[:, 0].long()
    maybe = torch.from_numpy(world.space.candidates())[:, LIVER][codes]
    slope = seen[0].grad[:, LIVER][maybe]
    assert 1000 < len(slope) < codes.numel()
    assert slope.max() <= 1e-9
    assert slope.min() < 0


class Centred(Softmax):
    """Logits whose mean over channels is 0, so that Avalanche's distance is ours."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x.view(*x.shape[:2], 1, 1, 1) if x.ndim == 2 else x)
        logits = logits - logits.mean(1, keepdim=True)
        return logits[..., 0, 0, 0] if x.ndim == 2 else logits


ITEMS, STEPS, RATE = 6, 12, 0.02


def items() -> list[tuple[torch.Tensor, torch.Tensor]]:
    rng = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(-4 + shift, 5 + shift, (ITEMS, 3), generator=rng, dtype=torch.int16),
            torch.randint(0, 3, (ITEMS,), generator=rng),
        )
        for shift in (-2, 3)
    ]


def start() -> Centred:
    return Centred(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)) / 4, torch.zeros(3))


def avalanches(alpha: float, beta: float, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Avalanche's DER; what it keeps of the logits is rounded as ours."""
    whole = stock.compute_dataset_logits
    monkeypatch.setattr(
        stock,
        "compute_dataset_logits",
        lambda *args, **kw: [(16 * z).round() / 16 for z in whole(*args, **kw)],
    )
    model, tensors = start(), [(x.float(), y) for x, y in items()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strategy = stock.DER(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=RATE),
            mem_size=2 * ITEMS,
            batch_size_mem=ITEMS,
            alpha=alpha,
            beta=beta,
            train_epochs=STEPS // ITEMS,
            evaluator=EvaluationPlugin(),
        )
        for experience in tensors_benchmark(tensors, tensors[:1], task_labels=[0, 0]).train_stream:
            strategy.train(experience, shuffle=False)
    return model


def ours(alpha: float, beta: float, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """As Avalanche's: the memory is filled after the first experience, and all of it is replayed in every step."""
    der = DER(Reservoir(), alpha, beta, stride=1)
    der.bind(context(three_classes(), sharing={}))
    sources = [Source(x.view(-1, 3, 1, 1, 1), y.view(-1, 1, 1, 1, 1)) for x, y in items()]
    benchmark = benchmark_from_datasets(train=[AvalancheDataset([TensorDataset(s.x, s.y)]) for s in sources])
    learner = ToyLearner(
        model=start(),
        criterion=PerVoxel(),
        optimizer=partial(torch.optim.SGD, lr=RATE),
        width=lambda: 3,
        plugins=[der],
        batch_size=1,
        schedule="constant",
    )
    first, second = benchmark.train_stream
    learner.learn(first, sources[0], STEPS)
    der.memory.sharing = {"first": "patches"}
    with torch.no_grad():
        logits = rounded(dark(learner.model(sources[0].x), 1))
    for i, parts in enumerate(zip(sources[0].x, sources[0].y.to(torch.uint8), logits, strict=True)):
        der.memory.offer(dict(zip(("x", "y", "logits"), parts, strict=True)), Origin("first", f"{i}"))
    assert len(der.memory) == ITEMS
    monkeypatch.setattr(der.memory, "draw", lambda *args, **kw: list(der.memory.held()))
    learner.learn(second, sources[1], STEPS)
    return learner.model


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.0), (0.2, 0.5)])
def test_weights_are_avalanche_s(alpha: float, beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, mine = avalanches(alpha, beta, monkeypatch), ours(alpha, beta, monkeypatch)
    for one, other in zip(theirs.parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    alone = ours(0.0, 0.0, monkeypatch)
    assert (alone.weight - mine.weight).abs().max() > 1e-2


def test_stored_labels_are_the_hospital_s_and_not_what_an_old_model_made_of_them() -> None:
    der, spy = DER(Reservoir(), stride=2), Spy()
    world = World(PseudoLabels(), der, spy, annotated=([["liver"]], [["spleen"]]), bind=ROOM)
    world.learn(0, steps=20)
    world.learn(1, steps=4)
    written = {c for _, parts in der.memory.held() for c in parts["y"].unique().tolist()}
    told = {c for source in world.sources for lut in source.luts for c in lut.tolist()}
    completed = {c for step in spy.steps for c in step["y"].unique().tolist()}
    assert completed - told, "the old model told of something"
    assert written <= told


def test_without_boundaries_exemplars_of_any_hospital_are_replayed_but_not_the_batch_itself() -> None:
    der, spy = DER(Reservoir(), stride=2, exemplars_per_batch=3), Spy()
    world = World(der, spy, boundaries=False, bind=ROOM)
    world.learn(0, steps=5)
    assert [len(step["given"]) for step in spy.steps] == [1, 2, 2, 2, 2]
    for number, step in enumerate(spy.steps[1:], start=1):
        arrived = [world.sources[0].patch(i)[0] for i in range(2 * number)]
        assert all(any(torch.equal(x, one) for one in arrived) for x in step["given"][1])


def test_a_budget_below_any_patch_with_logits_fails_before_training() -> None:
    """8³ voxels of one value and the 1×8³ logits of a head without organs, the smallest that an exemplar can be."""
    parts = {
        "x": torch.zeros(1, 8, 8, 8, dtype=torch.int16),
        "y": torch.zeros(1, 8, 8, 8, dtype=torch.uint8),
        "logits": torch.zeros(1, 8, 8, 8, dtype=torch.float16),
    }
    least = pack(parts, Origin("first", "a"), Description())[0].nbytes
    assert least > pack({k: parts[k] for k in "xy"}, Origin("first", "a"), Description())[0].nbytes
    World(DER(Reservoir(), stride=1), bind={"exemplar_bytes": least})
    with pytest.raises(LimitExceeded, match=f"at least {least} bytes"):
        World(DER(Reservoir(), stride=1), bind={"exemplar_bytes": least - 1})


@pytest.mark.parametrize(
    "wrong", [{"alpha": -1.0}, {"beta": float("nan")}, *({"stride": value} for value in (0, 2.5, True))]
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(LifelongCTError, match=next(iter(wrong))):
        DER(Reservoir(), **wrong)
