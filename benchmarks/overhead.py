"""CPU time of an optimizer step with each strategy, against the same step without one.

python -m benchmarks.overhead [--patch 48] [--pairs 40] [--only ewc,si] [--set memory.exemplars=64MiB]

Everything that a step does counts, but not what reads patches: they lie in memory. One experience has passed, so that
penalties, teachers and exemplars are there. A pair is a block of steps with the strategy and one without, in one process,
in turns; the bound is the upper end of a one-sided 95 % t interval of the log ratio. The limit is `overhead` in the
strategy's YAML. Ends with 1 where a bound is above its limit, or none is stated.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.utils.data import Dataset

from lifelong_ct.avalanche_bridge import AvalancheDataset, benchmark_from_datasets
from lifelong_ct.avalanche_bridge.plugin import StrategyContext
from lifelong_ct.avalanche_bridge.stock import adopt
from lifelong_ct.cli import compose
from lifelong_ct.cli.conf import own_folder
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.protocols import Batch
from lifelong_ct.core.units import parse_bytes
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.training.learner import Learner

HOSPITALS = {"first": ["liver"], "second": ["liver", "spleen"]}
CASES = 8


class Patches(Dataset[Any]):
    """Patches of a hospital in memory: a ramp, boxes of its organs, noise of 12 HU. A dataset and a PatchSource."""

    def __init__(self, space: LabelSpace, organs: list[str], edge: int, seed: int, batch_size: int) -> None:
        rng = np.random.default_rng(seed)
        lut = space.encode_lut(organs)
        self.batch_size, self.pairs = batch_size, [_drawn(rng, len(organs), edge, lut) for _ in range(CASES)]

    def __len__(self) -> int:
        return CASES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pairs[index]

    def batch(self, step: int) -> Batch:
        numbers = [i % CASES for i in range(step * self.batch_size, (step + 1) * self.batch_size)]
        x, y = (torch.stack([self.pairs[i][k] for i in numbers]) for k in (0, 1))
        return Batch(x, y, [f"case-{i}" for i in numbers])

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return map(self.batch, range(start, stop))


def _drawn(rng: np.random.Generator, organs: int, edge: int, lut: np.ndarray) -> tuple[Tensor, Tensor]:
    hu = np.linspace(-100, 0, edge)[:, None, None] + rng.normal(0, 12, (edge,) * 3)
    local = np.zeros((edge,) * 3, np.int64)
    for organ in range(1, organs + 1):
        box = tuple(slice(s, s + edge // 3) for s in rng.integers(0, edge - edge // 3, 3))
        local[box], hu[box] = organ, hu[box] + 100 * organ
    return torch.from_numpy(hu.astype(np.int16))[None], torch.from_numpy(lut[local])[None]


class Open(Learner):
    """Stays inside its experience, so that somebody else makes the steps."""

    inside = False

    def enter(self, experience: Any, source: Patches) -> None:
        """Begins an experience, and does not end it."""
        self.inside = True
        self.learn(experience, source, steps=1)
        self.source, self._batches = source, source.batches(0, sys.maxsize)

    def block(self, steps: int) -> float:
        """CPU seconds of some steps."""
        begin = time.process_time()
        for _ in range(steps):
            self._optimizer_step(self._batches)
        return time.process_time() - begin

    def training_epoch(self, **kwargs: Any) -> None:
        if not self.inside:
            super().training_epoch(**kwargs)

    def _after_training_epoch(self, **kwargs: Any) -> None:
        if not self.inside:
            super()._after_training_epoch(**kwargs)

    def _after_training_exp(self, **kwargs: Any) -> None:
        if not self.inside:
            super()._after_training_exp(**kwargs)

    def _after_training(self, **kwargs: Any) -> None:
        if not self.inside:
            super()._after_training(**kwargs)


def opened(strategy: str, edge: int, first: int, overrides: list[str]) -> Open:
    """A learner that has one hospital behind it and stands in the second.

    Args:
        strategy: its name.
        edge: of a patch, voxels.
        first: optimizer steps with the first hospital.
        overrides: of the configuration.
    """
    patch = f"stream.patch=[{edge},{edge},{edge}]"
    values = compose.plain(compose.compose(compose.Request([f"strategy={strategy}", patch, *overrides])))
    trainer, space = values["trainer"], LabelSpace([*HOSPITALS["second"]])

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return build(values["model"], "model").to(memory_format=torch.channels_last_3d)

    plugins = [adopt(plugin) for plugin in build(values["strategy"].get("plugins") or [], "strategy.plugins")]
    context = StrategyContext(
        seed=0,
        ledger=Ledger(),
        label_space=space,
        patch=(edge,) * 3,
        exemplar_bytes=parse_bytes(values["memory"]["exemplars"] or "16MiB", "memory.exemplars"),
        sharing=dict.fromkeys(HOSPITALS, "patches"),
        hospitals=[*HOSPITALS],
        new_model=model,
    )
    for plugin in plugins:
        plugin.bind(context)
    made = {key: build(trainer[key], f"trainer.{key}") for key in ("optimizer", "augment")}
    kept = {key: trainer[key] for key in ("batch_size", "accumulate", "amp", "clip")}
    loss = build(values["loss"], "loss", label_space=space)
    network = model()
    for plugin in plugins:
        network = plugin.shape(network)
    learner = Open(
        model=network,
        criterion=loss,
        width=lambda: space.width,
        plugins=plugins,
        schedule="constant",
        **made,
        **kept,
    )
    sources, count = {}, trainer["batch_size"]
    for i, (name, organs) in enumerate(HOSPITALS.items()):
        space.see(organs)
        sources[name] = Patches(space, organs, edge, i, count)
        datasets = benchmark_from_datasets(train=[AvalancheDataset([sources[name]])] * (i + 1))
        experience = list(datasets.train_stream)[i]
        if name == "first":
            learner.learn(experience, sources[name], first)
        else:
            learner.enter(experience, sources[name])
    return learner


@dataclass(frozen=True)
class Found:
    """Of one strategy: mean ratio, its upper 95 % bound, CPU ms of a step without."""

    ratio: float
    bound: float
    naive: float


def measured(strategy: str, edge: int, pairs: int, steps: int, overrides: list[str]) -> Found:
    """`pairs` ratios of blocks of `steps`, after one block to warm up."""
    without, with_it = (opened(name, edge, 4, overrides) for name in ("naive", strategy))
    return summary(in_turns(without, with_it, pairs, steps), steps)


def in_turns(one: Any, other: Any, pairs: int, steps: int) -> list[tuple[float, float]]:
    """CPU seconds of a block of `steps` of each, `pairs` times, after one to warm up; each begins every other time."""
    found = []
    for i in range(pairs + 1):
        spent = {id(each): each.block(steps) for each in ((one, other) if i % 2 else (other, one))}
        found.append((spent[id(one)], spent[id(other)]))
    return found[1:]


def bound(values: list[float]) -> tuple[float, float]:
    """Mean, and the upper end of a one-sided 95 % t interval."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return mean, mean + float(stats.t.ppf(0.95, len(values) - 1)) * error


def summary(times: list[tuple[float, float]], steps: int) -> Found:
    """Of pairs of CPU seconds (without, with): geometric mean of the ratios, and the bound of a t interval."""
    mean, most = bound([math.log(b / a) for a, b in times])
    return Found(math.exp(mean), math.exp(most), float(np.median([a for a, _ in times])) / steps * 1e3)


def limit(strategy: str) -> float | None:
    """`overhead` of its YAML."""
    values = compose.plain(compose.compose(compose.Request([f"strategy={strategy}"])))["strategy"]
    return None if values.get("overhead") is None else float(values["overhead"])


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patch", type=int, default=48, help="edge in voxels")
    parser.add_argument("--pairs", type=int, default=40, help="at least 10; the fewer, the wider the bound")
    parser.add_argument("--steps", type=int, default=2, help="per block")
    parser.add_argument("--only", help="names, by comma")
    parser.add_argument("--csv", type=Path, help="also writes strategy, ratio and bound there")
    parser.add_argument("--set", action="append", default=[], help="an override of the configuration")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = sorted(file.stem for file in (own_folder() / "strategy").glob("*.yaml"))
    chosen = given.only.split(",") if given.only else [name for name in names if name != "naive"]
    print(
        f"patch {given.patch}³, {given.pairs} pairs of {given.steps} steps, one thread, torch {torch.__version__}"
    )
    print(
        f"load {os.getloadavg()[0]:.1f}\n\n| strategy | ratio | upper bound | limit | |\n|---|---|---|---|---|"
    )
    held, rows = [], []
    for name in chosen:
        found, most = measured(name, given.patch, given.pairs, given.steps, given.set), limit(name)
        held.append(most is not None and found.bound <= most)
        rows.append((name, f"{found.ratio:.4f}", f"{found.bound:.4f}"))
        verdict = "held" if held[-1] else "no limit stated" if most is None else "**broken**"
        shown = "–" if most is None else f"{most:.2f}"
        print(f"| {name} | {found.ratio:.3f} | {found.bound:.3f} | {shown} | {verdict} |", flush=True)
    print(f"\na step without a strategy: {found.naive:.0f} ms CPU; load {os.getloadavg()[0]:.1f}")
    if given.csv:
        with open(given.csv, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("strategy", "ratio", "bound"), *rows])
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
