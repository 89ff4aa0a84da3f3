"""Hospitals of one tiny patch each, in memory, for contracts that take milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lifelong_ct.avalanche_bridge import AvalancheDataset, SupervisedPlugin, benchmark_from_datasets
from lifelong_ct.avalanche_bridge.plugin import StrategyContext, StrategyPlugin
from lifelong_ct.avalanche_bridge.stock import adopt
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.protocols import Batch
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.losses.dice_ce import PartialDiceCE
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.training.learner import Learner

EDGE = 8
ORGANS = ["liver", "spleen"]
BUDGET = 16 << 10


class OnePatch(Dataset[Any]):
    """A hospital of one case whose every patch is the same; a dataset and a PatchSource.

    Args:
        space: codes the labels.
        organs: annotated, each a box of its own HU.
        seed: of the voxels.
        tiles: the patch repeated along each axis.
    """

    def __init__(self, space: LabelSpace, organs: Sequence[str], seed: int, tiles: int) -> None:
        rng = np.random.default_rng(seed)
        hu, local = rng.normal(-60, 15, (EDGE,) * 3), np.zeros((EDGE,) * 3, np.int64)
        for organ in range(1, len(organs) + 1):
            box = tuple(slice(s, s + 3) for s in rng.integers(0, EDGE - 3, 3))
            local[box], hu[box] = organ, hu[box] + 100 * organ
        x, y = torch.from_numpy(hu.astype(np.int16)), torch.from_numpy(space.encode_lut(organs)[local])
        self.x, self.y = (each.repeat(tiles, tiles, tiles)[None] for each in (x, y))
        self.case = f"case-{seed}"

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x, self.y

    def batch(self, step: int) -> Batch:
        return Batch(self.x[None], self.y[None], [self.case])

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return map(self.batch, range(start, stop))


class Tileable(nn.Module):
    """An encoder and a decoder that look at blocks of 2³ voxels and at nothing beyond, so that a tiled patch gives tiled
    features exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse, self.up = nn.Conv3d(1, 4, 1), nn.Conv3d(4, 4, 2, stride=2), nn.Conv3d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x).relu()
        coarse = nn.functional.interpolate(self.coarse(fine).relu(), scale_factor=2.0)
        features: Tensor = self.up(torch.cat([fine, coarse], 1))
        return features


class TinyWorld:
    """Hospitals that annotate the same organs, and a learner with a strategy on a tiny network.

    Args:
        plugins: makes the plugins of the strategy.
        hospitals: how many.
        tiles: of every patch.
        boundaries: whether the plugins hear where a hospital ends.

    Attributes:
        plugins: bound.
        added: per micro-batch what the plugins added to the loss.
    """

    def __init__(
        self,
        plugins: Callable[[], Sequence[SupervisedPlugin]],
        hospitals: int,
        tiles: int = 1,
        boundaries: bool = True,
    ) -> None:
        self.space = LabelSpace(ORGANS)
        self.space.see(ORGANS)
        self.sources = [OnePatch(self.space, ORGANS, seed, tiles) for seed in range(hospitals)]
        names = [f"hospital-{i}" for i in range(hospitals)]
        self.plugins: list[StrategyPlugin] = [adopt(plugin) for plugin in plugins()]
        context = StrategyContext(
            seed=0,
            ledger=Ledger(),
            label_space=self.space,
            patch=(EDGE,) * 3,  # tiled too: windows that a method pools over are those of the run
            exemplar_bytes=BUDGET * tiles**3,
            sharing=dict.fromkeys(names, "patches"),
            hospitals=names,
            new_model=_model,
        )
        for plugin in self.plugins:
            plugin.bind(context)
        self.added: list[float] = []
        self.declared = [plugin.declared_bytes(_grown_bytes()) for plugin in self.plugins]
        datasets = [AvalancheDataset([source]) for source in self.sources]
        self._experiences = list(benchmark_from_datasets(train=datasets).train_stream)
        model: Any = _model()
        for plugin in self.plugins:
            model = plugin.shape(model)
        self.learner = Learner(
            model=model,
            criterion=PartialDiceCE(self.space),
            optimizer=partial(torch.optim.SGD, lr=0.1),
            width=lambda: self.space.width,
            plugins=[_Before(self), *self.plugins, _After(self)],
            batch_size=1,
            clip=1.0,
            schedule="constant",
            boundaries=boundaries,
        )

    def learn(self, hospital: int, steps: int = 1, begin: Callable[[], int] = lambda: 0) -> None:
        """Trains on the next hospital; `begin` as in `Learner.learn`."""
        self.learner.learn(self._experiences[hospital], self.sources[hospital], steps, begin)

    def learn_joined(self, steps: int) -> None:
        """Trains on all hospitals one after another, so many steps each, as if they were one experience."""
        joined = _Joined(self.sources, steps)
        self.learner.learn(self._experiences[0], joined, steps * len(self.sources))


class _Joined:
    """The patches of hospitals one after another; a PatchSource.

    Args:
        sources: of the hospitals.
        each: batches of each.
    """

    def __init__(self, sources: Sequence[OnePatch], each: int) -> None:
        self.sources, self.each = sources, each

    def batch(self, step: int) -> Batch:
        return self.sources[step // self.each % len(self.sources)].batch(step)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return map(self.batch, range(start, stop))


class _Before(SupervisedPlugin):
    """Remembers the loss that the plugins get."""

    def __init__(self, world: TinyWorld) -> None:
        super().__init__()
        self.world = world

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.world.added.append(-strategy.loss.item())


class _After(_Before):
    """Compares it with what they made of it."""

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.world.added[-1] += strategy.loss.item()


def _model() -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(Tileable(), features=4)


def _grown_bytes() -> int:
    model = _model()
    model.grow(1 + len(ORGANS))
    return sum(p.numel() * p.element_size() for p in model.parameters())
