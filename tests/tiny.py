"""Two hospitals of random 8³ patches in memory, and a learner that trains on them in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lifelong_ct.avalanche_bridge import benchmark_from_datasets
from lifelong_ct.avalanche_bridge.copying import attributed
from lifelong_ct.avalanche_bridge.plugin import StrategyContext, StrategyPlugin
from lifelong_ct.avalanche_bridge.stock import adopt
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.protocols import Batch
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.losses.dice_ce import PartialDiceCE
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.training.learner import Learner

PATCH = (8, 8, 8)
HOSPITALS = ["first", "second"]
ANNOTATED = {"first": ["liver"], "second": ["liver", "spleen"]}


class Patches:
    """A PatchSource and a dataset: patch i shows boxes of the annotated organs in their own HU.

    Args:
        space: codes the labels.
        annotated: organs of the patches, in turn.
        seed: of the voxels.
        batch_size: patches per batch.
        contrast: factor of the organs' HU.
    """

    def __init__(
        self,
        space: LabelSpace,
        annotated: Sequence[Sequence[str]],
        seed: int,
        batch_size: int = 1,
        contrast: float = 1.0,
    ) -> None:
        self.space, self.annotated, self.seed = space, annotated, seed
        self.batch_size, self.contrast = batch_size, contrast

    @cached_property
    def luts(self) -> list[np.ndarray]:
        """Made when the hospital arrives: its organs get their channels then."""
        return [self.space.encode_lut(organs) for organs in self.annotated]

    def patch(self, i: int) -> tuple[Tensor, Tensor, str]:
        rng = np.random.default_rng((self.seed, i))
        which = i % len(self.annotated)
        local = np.zeros(PATCH, np.int64)
        hu = rng.normal(-60, 15, PATCH)
        for k in range(1, len(self.annotated[which]) + 1):
            box = tuple(slice(s, s + 3) for s in rng.integers(0, 5, 3))
            local[box] = k
            hu[box] += 120 * k * self.contrast
        x = torch.from_numpy(hu.astype(np.int16))[None]
        return x, torch.from_numpy(self.luts[which][local])[None], f"case-{self.seed}-{i}"

    def batch(self, step: int) -> Batch:
        numbers = range(step * self.batch_size, (step + 1) * self.batch_size)
        x, y, cases = zip(*map(self.patch, numbers))
        return Batch(torch.stack(x), torch.stack(y), cases, corners=[self.corner(i) for i in numbers])

    @staticmethod
    def corner(i: int) -> tuple[int, int, int]:
        """Of patch i, in a volume that nobody has."""
        return i, 10 * i, -i

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return map(self.batch, range(start, stop))


class Items(Dataset[Any]):
    """The first patches of a source, as a stock plugin sees them."""

    def __init__(self, source: Patches, count: int) -> None:
        self.source, self.count = source, count
        self.patients = [f"patient {source.seed}-{i}" for i in range(count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.source.patch(index)[:2]


def model(seed: int = 0) -> SegmentationModel:
    torch.manual_seed(seed)
    backbone = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.LeakyReLU(), nn.Conv3d(4, 4, 1)
    )
    return SegmentationModel(backbone, features=4)


def context(space: LabelSpace, **changes: Any) -> StrategyContext:
    defaults: dict[str, Any] = {
        "seed": 0,
        "ledger": Ledger(),
        "label_space": space,
        "patch": PATCH,
        "exemplar_bytes": 16 << 10,
        "sharing": dict.fromkeys(HOSPITALS, "patches"),
        "hospitals": HOSPITALS,
        "new_model": model,
    }
    return StrategyContext(**{**defaults, **changes})


class World:
    """A label space, its hospitals and a bound learner; everything starts from the same seed.

    Args:
        plugins: of the strategy; stock ones are adopted.
        annotated: per hospital the organs of its patches.
        contrast: per hospital.
        items: patches per hospital in the datasets that stock plugins see.
        bind: fields of the StrategyContext that differ.
        options: arguments of the Learner that differ.
    """

    def __init__(
        self,
        *plugins: Any,
        annotated: Sequence[Sequence[Sequence[str]]] = ([["liver"]], [["liver", "spleen"]]),
        contrast: Sequence[float] = (1.0, 1.0),
        items: int = 2,
        bind: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.space = LabelSpace(["liver", "spleen"])
        batch_size = options.get("batch_size", 2)
        self.sources = [
            Patches(self.space, organs, i, batch_size, c)
            for i, (organs, c) in enumerate(zip(annotated, contrast, strict=True))
        ]
        self.plugins: list[StrategyPlugin] = [adopt(plugin) for plugin in plugins]
        lent = context(self.space, **(bind or {}))
        self.ledger = lent.ledger
        for plugin in self.plugins:
            plugin.bind(lent)
        datasets = [attributed(Items(source, items)) for source in self.sources]
        self.experiences = list(benchmark_from_datasets(train=datasets).train_stream)
        self.losses: list[float] = []
        self._options = {
            "model": model(),
            "criterion": PartialDiceCE(self.space),
            "optimizer": partial(torch.optim.AdamW, lr=1e-2),
            "batch_size": batch_size,
            "width": lambda: self.space.width,
            "plugins": self.plugins,
            "on_step": lambda report: self.losses.append(report.loss),
        } | options
        self.learner = Learner(**self._options)

    def learn(self, experience: int, steps: int = 2) -> None:
        """Trains experience 0 or 1."""
        assert self.sources[experience].luts
        self.learner.learn(self.experiences[experience], self.sources[experience], steps)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint of a run holds of these."""
        return {
            "space": self.space.state_dict(),
            "learner": self.learner.state_dict(),
            "plugins": [plugin.state_dict() for plugin in self.plugins],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.space.load_state_dict(state["space"])
        for plugin, own in zip(self.plugins, state["plugins"], strict=True):
            plugin.load_state_dict(own)
        self.learner.load_state_dict(state["learner"])

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.learner.model.state_dict().items()}
