"""Softmax regression on single voxels: a classification problem that our loop and Avalanche's plugins both train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from tiny import context
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lifelong_ct.avalanche_bridge import AvalancheDataset, benchmark_from_datasets
from lifelong_ct.avalanche_bridge.stock import adopt
from lifelong_ct.core.protocols import Batch
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.strategies.quadratic import QuadraticPenalty
from lifelong_ct.training.learner import Learner

FEATURES, CLASSES = 3, 3


class Softmax(nn.Module):
    """logits = W x + b per voxel, x as stored or float `[B,F,D,H,W]`."""

    def __init__(self, weight: Tensor, bias: Tensor, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias, self.drop = nn.Parameter(weight), nn.Parameter(bias), nn.Dropout(dropout)

    def grow(self, width: int) -> bool:
        return False

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.einsum("kc,bcdhw->bkdhw", self.weight, self.drop(x.float()))
        return logits + self.bias.view(1, -1, 1, 1, 1)


class PerVoxel(nn.Module):
    """Cross-entropy, the mean over all voxels."""

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, y[:, 0].long())


def three_classes() -> LabelSpace:
    """Codes 0, 1, 2 of cases in which everything is annotated."""
    space = LabelSpace(["liver", "spleen"])
    space.see(["liver", "spleen"])
    return space


class Source:
    """The items of a dataset in turn, one per batch."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def batch(self, step: int) -> Batch:
        i = step % len(self.x)
        return Batch(self.x[i : i + 1], self.y[i : i + 1], [f"case-{i}"])

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return map(self.batch, range(start, stop))


class ToyLearner(Learner):
    """Its held-out patches are the items of the experience, as in Avalanche."""

    def held_out_patches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(count):
            batch = self.source.batch(i)  # type: ignore[union-attr]
            yield batch.x, batch.y


def trained(
    *plugins: Any,
    lr: float = 0.1,
    items: int = 6,
    steps: int = 12,
    hospitals: int = 3,
    whole: bool = False,
    bind: dict[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Weights after experiences of other distributions, by plain SGD on one item at a time.

    Args:
        plugins: of the strategy.
        lr: of SGD.
        items: of each experience.
        steps: of each experience.
        hospitals: number of experiences.
        whole: int16 features, as exemplars have them, instead of float.
        bind: fields of the StrategyContext that differ.
    """
    generator = torch.Generator().manual_seed(0)
    sources = []
    for shift in (-1.0, 0.5, 2.0)[:hospitals]:
        x = torch.randn(items, FEATURES, 1, 1, 1, generator=generator) + shift
        x = (2 * x).round().short() if whole else x
        sources.append(Source(x, torch.randint(0, CLASSES, (items, 1, 1, 1, 1), generator=generator)))
    benchmark = benchmark_from_datasets(train=[AvalancheDataset([TensorDataset(s.x, s.y)]) for s in sources])
    for plugin in plugins:
        if isinstance(plugin, QuadraticPenalty):
            plugin.bind(context(three_classes(), **(bind or {})))
    weight = torch.randn(CLASSES, FEATURES, generator=generator) / 4
    learner = ToyLearner(
        model=Softmax(weight, torch.zeros(CLASSES)),
        criterion=PerVoxel(),
        optimizer=partial(torch.optim.SGD, lr=lr),
        width=lambda: CLASSES,
        plugins=[p if isinstance(p, QuadraticPenalty) else ready(p, **(bind or {})) for p in plugins],
        batch_size=1,
        schedule="constant",
    )
    for experience, source in zip(benchmark.train_stream, sources, strict=True):
        learner.learn(experience, source, steps)
    return {name: p.detach().clone() for name, p in learner.model.named_parameters()}


def ready(plugin: Any, **bind: Any) -> Any:
    """A stock plugin, adopted where the bridge takes it."""
    if type(plugin).__name__ == "SynapticIntelligencePlugin":
        return plugin
    adopted = adopt(plugin)
    adopted.bind(context(three_classes(), **bind))
    return adopted


class Lender:
    """What importances need of a learner: a model, held-out patches, a criterion, a clock."""

    def __init__(
        self, model: nn.Module, patches: Sequence[tuple[Tensor, Tensor]], experience: int = 0
    ) -> None:
        self.model, self.patches, self.device = model, patches, torch.device("cpu")
        self.clock = SimpleNamespace(train_exp_counter=experience)
        self._criterion = PerVoxel()

    def held_out_patches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from (self.patches[i % len(self.patches)] for i in range(count))


def softmax_model() -> Softmax:
    """One feature, three classes; drops out in training."""
    return Softmax(torch.tensor([[0.5], [-0.2], [0.1]]), torch.tensor([0.0, 0.3, -0.1]), dropout=0.9)


def patches(count: int, edge: int = 2) -> list[tuple[Tensor, Tensor]]:
    """x int16 from -3 to 3 and classes 0, 1, 2, `[1,1,edge,edge,edge]` each."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(-3, 4, (count, 1, 1, edge, edge, edge), generator=rng, dtype=torch.int16)
    return list(zip(x, torch.randint(0, 3, x.shape, generator=rng, dtype=torch.uint8), strict=True))


def tiled(patch: tuple[Tensor, Tensor], times: int) -> tuple[Tensor, Tensor]:
    """The patch repeated along each axis."""
    x, y = patch
    return x.repeat(1, 1, *[times] * 3), y.repeat(1, 1, *[times] * 3)


def walk(plugin: Any, model: nn.Module, losses: Any, step: Any, scaler: Any = None) -> Any:
    """Calls a plugin's hooks as the learner does, over one experience.

    Args:
        plugin: bound.
        model: with the parameters.
        losses: per step, a function of the model.
        step: changes the parameters after the gradients are there.
        scaler: of the learner.
    """
    strategy = SimpleNamespace(model=model, plugins=[plugin], device=torch.device("cpu"), scaler=scaler)
    plugin.before_training_exp(strategy)
    for loss in losses:
        model.zero_grad()
        strategy.loss = loss(model)
        plugin.before_backward(strategy)
        strategy.loss.backward()
        plugin.after_backward(strategy)
        with torch.no_grad():
            step(model)
        plugin.after_update(strategy)
    plugin.after_training_exp(strategy)
    return strategy
