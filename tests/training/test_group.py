"""Two ranks learn what one with the doubled batch does."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranked
import torch
from avalanche.training.plugins import EWCPlugin
from hospitals import options, stream
from tiny import World
from torch import Tensor

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.avalanche_bridge.stock import adopt
from lifelong_ct.cli import compose
from lifelong_ct.cli.conf import own_folder
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.protocols import Batch
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.memory.selection.herding import Herding
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.strategies.latent_replay import LatentReplay
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.testing.world import Tileable
from lifelong_ct.training.group import average_gradients, check, check_ranks, shares
from lifelong_ct.training.options import DataOptions

ORGANS = [[["liver"], ["spleen"]], [["liver", "spleen"], ["spleen"]]]
"""Per hospital what its patches annotate in turn: in a batch of two each rank has another."""
BUDGET = 16 << 10
LITTLE = 6 << 10
ALONE = ("latent_replay",)
FEW = ["agem", "dynamic_memory", "gdumb", "replay_ewc_lwf"]
LISTED = sorted(file.stem for file in (own_folder() / "strategy").glob("*.yaml"))


class Rows:
    """A rank's rows of the batches of a source."""

    def __init__(self, source: Any, ranks: Ranks) -> None:
        self.source, self.ranks, self.luts = source, ranks, source.luts

    def batch(self, step: int) -> Batch:
        return part(self.source.batch(step), slice(0, len(self.source.batch(step).cases) // self.ranks.size))

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        mine = slice(self.ranks.rank, None, self.ranks.size)
        return (part(self.source.batch(step), mine) for step in range(start, stop))


def part(batch: Batch, rows: slice) -> Batch:
    return replace(
        batch, x=batch.x[rows], y=batch.y[rows], cases=batch.cases[rows], corners=batch.corners[rows]
    )


def network() -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(Tileable(), features=4)


def world(ranks: Ranks, *plugins: Any, batch_size: int = 2, budget: int = BUDGET, **options: Any) -> World:
    made = World(
        *plugins,
        annotated=ORGANS,
        batch_size=batch_size,
        bind={"ranks": ranks, "exemplar_bytes": budget, "new_model": network},
        model=network(),
        **options,
    )
    for plugin in made.plugins:
        made.learner.model = plugin.shape(made.learner.model)
    made.space.see(["liver", "spleen"])
    made.sources = [Rows(source, ranks) for source in made.sources]
    made.learner.ranks, made.learner.train_mb_size = ranks, batch_size // ranks.size
    return made


class Gradients(SupervisedPlugin):
    """Remembers the first step's."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Tensor] = {}

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        named = strategy.model.named_parameters()
        self.found = self.found or {name: p.grad.clone() for name, p in named}


def gradients(ranks: Ranks, accumulate: int) -> dict[str, Any]:
    plugin = Gradients()
    made = world(ranks, accumulate=accumulate, on_step=lambda report: losses.append(report.loss))
    losses: list[float] = []
    made.learner.plugins.insert(0, plugin)
    made.learn(0, 1)
    return {"gradients": plugin.found, "loss": losses[0]}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_those_of_the_doubled_batch(tmp_path: Path, accumulate: int) -> None:
    """Each rank has patches that annotate another organ."""
    expected = gradients(Ranks(), accumulate)
    for found in ranked.run(partial(gradients, accumulate=accumulate), tmp_path):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)
        one, other = (
            torch.cat([g.flatten() for g in each["gradients"].values()]) for each in (found, expected)
        )
        assert (one - other).norm() / other.norm() <= 1e-5


@cache
def composed(name: str) -> dict[str, Any]:
    """The children have what the parent has."""
    config: dict[str, Any] = compose.plain(compose.compose(compose.Request([f"strategy={name}"])))
    return config["strategy"]


def plugins(name: str, ranks: Ranks) -> list[Any]:
    """As in the YAML, for patches of 8³ voxels; what one rank adds of exemplars is what both do."""
    config = composed(name)
    made: list[Any] = build(config.get("plugins") or [], "strategy.plugins")
    for plugin in made:
        if hasattr(plugin, "exemplars_per_batch"):
            plugin.exemplars_per_batch = 2 // ranks.size
    return made


def learnt(ranks: Ranks, names: list[str]) -> dict[str, Any]:
    told = {}
    for name in names:
        made = world(ranks, *plugins(name, ranks), augment=None, optimizer=partial(torch.optim.SGD, lr=0.05))
        for hospital in (0, 1):
            made.learn(hospital, 3)
        memories = [plugin.memory for plugin in made.plugins if hasattr(plugin, "memory")]
        told[name] = {
            "weights": made.learner.model.state_dict(),
            "held": [[e.id for e in memory._pool.kept] for memory in memories],
            "nbytes": [memory.nbytes for memory in memories],
            "here": [made.ledger.report()["ram"]["used"] or 0 for _ in memories],
            "blobs": [state["blobs"] for state in (memory.state_dict() for memory in memories)],
        }
    return told


@pytest.mark.parametrize(
    "names", [FEW, pytest.param([name for name in LISTED if name not in ALONE], marks=pytest.mark.slow)]
)
def test_strategies_learn_what_they_do_on_one_rank(tmp_path: Path, names: list[str]) -> None:
    """Weights equal but for the order of additions; decisions the same everywhere; exemplars inside the budget together."""
    expected = learnt(Ranks(), names)
    one, other = ranked.run(partial(learnt, names=names), tmp_path)
    for name in names:
        for key, value in expected[name]["weights"].items():
            assert torch.equal(one[name]["weights"][key], other[name]["weights"][key]), (name, key)
            torch.testing.assert_close(
                one[name]["weights"][key], value, rtol=1e-3, atol=1e-5, msg=f"{name} {key}"
            )
        assert one[name]["held"] == other[name]["held"], name
        for i, nbytes in enumerate(one[name]["nbytes"]):
            assert 0 < one[name]["here"][i] + other[name]["here"][i] == nbytes <= BUDGET, name
            assert min(one[name]["here"][i], other[name]["here"][i]) > 0, name
            assert len(one[name]["blobs"][i]) == len(one[name]["held"][i]), name
            assert other[name]["blobs"][i] == []


def full(ranks: Ranks) -> dict[str, Any]:
    made = world(ranks, *plugins("replay", ranks), budget=LITTLE)
    for hospital in (0, 1):
        made.learn(hospital, 8)
    memory = made.plugins[0].memory
    state = memory.state_dict()
    here = made.ledger.report()["ram"]["used"]
    before = memory.sample(3, np.random.default_rng(0))
    blobs = ranks.gather(state["blobs"])[0]
    memory.load_state_dict({**state, "blobs": blobs})  # who keeps which may be others now
    again = memory.sample(3, np.random.default_rng(0))
    return {"held": [e.id for e in memory._pool.kept], "here": here, "drawn": [before, again]}


def test_a_full_memory(tmp_path: Path) -> None:
    """All drop the same, count what each knows of all, and draw the same after a checkpoint."""
    one, other = ranked.run(full, tmp_path)
    assert one["held"] == other["held"]
    assert 3 < len(one["held"]) < 32
    assert LITTLE / 2 < one["here"] + other["here"] <= LITTLE
    for found in (one, other):
        before, again = found["drawn"]
        assert all(torch.equal(before[name], again[name]) for name in ("x", "y"))
    assert not torch.equal(one["drawn"][0]["x"], other["drawn"][0]["x"])


def test_what_nobody_has_made_sure_of_is_refused(tmp_path: Path) -> None:
    ranks = Ranks()
    ranks.size = 2
    plain = options(stream({"name": "a"}), tmp_path)
    check(plain, [Replay(Reservoir())], ranks)
    for plugin in (LatentReplay(Reservoir()), adopt(EWCPlugin(0.1))):
        with pytest.raises(LifelongCTError, match=r"(LatentReplay|EWCPlugin): not with 2 ranks"):
            check(plain, [plugin], ranks)
        check(plain, [plugin], Ranks())
    with pytest.raises(LifelongCTError, match="one_pass"):
        check(replace(plain, data=DataOptions(schedule="one_pass")), [], ranks)
    with pytest.raises(LifelongCTError, match="exemplars on disk"):
        check(replace(plain, exemplar_tier="disk"), [], ranks)
    with pytest.raises(LifelongCTError, match="the mean of all that arrives"):
        world(ranks, Replay(Herding()))


def test_a_run_goes_on_with_as_many_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks()
    for state in (None, {}, {"ranks": 1}):
        check_ranks(state, ranks)
    with pytest.raises(LifelongCTError, match="began with 2 ranks, these are 1"):
        check_ranks({"ranks": 2}, ranks)


def test_ranks_of_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"ram": "1GiB", "gpu": 5, "exemplars": "1MiB"}
    ranks = Ranks()
    assert shares(limits, ranks) == limits
    ranks.size = 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert shares(limits, ranks) == {**limits, "ram": 1 << 29}
    assert shares({"ram": None}, ranks) == {"ram": None}


def uneven(ranks: Ranks) -> dict[str, Any]:
    model = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1, bias=False) for name in ("both", "one", "none")})
    model["norm"] = torch.nn.BatchNorm1d(1)
    model["norm"].running_mean.fill_(ranks.rank)
    model["both"].weight.grad = torch.full((1, 1), 1.0 + ranks.rank)
    if ranks.rank == 1:
        model["one"].weight.grad = torch.full((1, 1), 4.0)
    average_gradients(model, ranks)
    found = {name: model[name].weight.grad for name in ("both", "one", "none")}
    told = ranks.gather({"rank": ranks.rank}), ranks.collect(ranks.rank)
    tensors = [torch.tensor([1.0 + ranks.rank]), torch.tensor([3 * ranks.rank])]
    ranks.share(tensors)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except LifelongCTError as error:
        said = str(error)
    return {
        "said": said,
        "gradients": found,
        "mean": model["norm"].running_mean,
        "told": told,
        "shared": tensors,
    }


def test_by_hand(tmp_path: Path) -> None:
    for rank, found in enumerate(ranked.run(uneven, tmp_path)):
        assert found["gradients"]["both"].item() == 1.5
        assert found["gradients"]["one"].item() == 2.0
        assert found["gradients"]["none"] is None
        assert found["mean"].item() == 0
        assert f"rank {rank} of 2" in found["said"]
        assert found["told"] == [[{"rank": 0}, {"rank": 1}], [] if rank else [0, 1]]
        assert [t.item() for t in found["shared"]] == [1.0, 0]
