"""What a selection policy costs: CPU time per training step of replay with each, beside replay with the reservoir.

    python -m benchmarks.selection                       # five minutes on one core
    python -m benchmarks.selection --only 'gss|herding' --budget 16MiB

One process, one thread. Every policy trains its own model on the same patches of a drawn hospital, after another one
has filled its memory; blocks of steps alternate, the order turns round after each round, and what is compared is the
ratio to the reservoir's block of the same round.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from lifelong_ct.avalanche_bridge import AvalancheDataset, benchmark_from_datasets
from lifelong_ct.avalanche_bridge.plugin import StrategyContext
from lifelong_ct.cli import compose
from lifelong_ct.cli.conf import options
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.protocols import Batch
from lifelong_ct.core.seeding import generator
from lifelong_ct.core.units import parse_bytes
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.phantom import ORGANS
from lifelong_ct.losses.dice_ce import PartialDiceCE
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.training.augment import Augment
from lifelong_ct.training.learner import Learner

PATCH, REFERENCE = 48, "reservoir"
HOSPITALS = ("first", "second")


class Crops:
    """Patches of a drawn hospital; the same for everybody."""

    def __init__(self, hospital: str, space: LabelSpace) -> None:
        layout = PhantomLayout(hospital, train=3, test=0)
        self.hospital, self.volumes = hospital, [layout.load(case) for case in layout.cases()]
        self.lut = space.encode_lut(self.volumes[0].organs)

    def batch(self, step: int) -> Batch:
        rng = generator(0, self.hospital, step)
        raw = self.volumes[int(rng.integers(len(self.volumes)))]
        corner = (int(rng.integers(0, n - PATCH + 1)) for n in raw.image.shape[-3:])
        place = tuple(slice(c, c + PATCH) for c in corner)
        assert raw.label is not None
        x, y = raw.image[place].copy(), self.lut[raw.label[place]]
        return Batch(torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None], [f"case {step}"])

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return map(self.batch, range(start, stop))


class Shifted:
    """Another part of the patches in each block."""

    def __init__(self, crops: Crops, first: int) -> None:
        self.crops, self.first = crops, first

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return self.crops.batches(self.first + start, self.first + stop)


class Contestant:
    """A learner with a policy."""

    def __init__(self, name: str, budget: int) -> None:
        space = LabelSpace(ORGANS)
        self.crops = [Crops(hospital, space) for hospital in HOSPITALS]
        config = compose.plain(compose.compose(compose.Request([f"selection={name}"])))
        self.replay = Replay(
            build(config["selection"], "selection"), 1, window=config["model"]["window"], precision=16
        )
        self.replay.bind(
            StrategyContext(
                seed=0,
                ledger=Ledger(),
                label_space=space,
                patch=(PATCH,) * 3,
                exemplar_bytes=budget,
                sharing=dict.fromkeys(HOSPITALS, "patches"),
                hospitals=[HOSPITALS[0], *[HOSPITALS[1]] * 10_000],
                new_model=lambda: None,
            )
        )
        torch.manual_seed(0)
        self.learner = Learner(
            model=build(config["model"], "model"),
            criterion=PartialDiceCE(space),
            optimizer=partial(torch.optim.AdamW, lr=1e-2),
            width=lambda: space.width,
            plugins=[self.replay],
            batch_size=1,
            clip=1.0,
            augment=Augment(noise=10.0, shift=10.0, scale=0.05),
        )

    def fill(self, steps: int) -> None:
        """The first hospital."""
        self.learner.learn(_experience(), self.crops[0], steps)

    def block(self, number: int, steps: int) -> float:
        """CPU ms per step of a block in the second hospital."""
        source, begin = Shifted(self.crops[1], number * steps), time.process_time()
        self.learner.learn(_experience(), source, steps)
        return 1e3 * (time.process_time() - begin) / steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="policies whose name matches")
    parser.add_argument("--budget", default="1536KiB", help="of the memory; stream=phantom has 1536KiB")
    parser.add_argument("--fill", type=int, default=250, help="steps in the first hospital")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--steps", type=int, default=8, help="per block")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    names = [n for n in options()["selection"] if n != REFERENCE and re.search(chosen.only, n)]
    crowd = {name: Contestant(name, parse_bytes(chosen.budget, "--budget")) for name in (REFERENCE, *names)}
    for contestant in crowd.values():
        contestant.fill(chosen.fill)
    found: dict[str, list[float]] = {name: [] for name in crowd}
    for number in range(chosen.rounds):
        for name in list(crowd)[:: 1 if number % 2 else -1]:
            found[name].append(crowd[name].block(number, chosen.steps))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {chosen.rounds} rounds\n")
    print(
        "| selection | exemplars, of the second | CPU ms per step | × reservoir | 95 % below |\n|---|---|---|---|---|"
    )
    for name, contestant in crowd.items():
        kept = [exemplar.origin.hospital for exemplar, _ in contestant.replay.memory.held()]
        ratios = [own / other for own, other in zip(found[name], found[REFERENCE], strict=True)]
        print(
            f"| {name} | {len(kept)}, {kept.count(HOSPITALS[1])} | {statistics.median(found[name]):.1f} "
            f"| {statistics.median(ratios):.3f} | {upper(ratios):.3f} |"
        )


def upper(ratios: Sequence[float]) -> float:
    """The 95 % bound of their median, by 2,000 draws with replacement."""
    drawn = np.random.default_rng(0).choice(np.asarray(ratios), (2000, len(ratios)))
    return float(np.quantile(np.median(drawn, axis=1), 0.95))


@cache
def _experience() -> Any:
    """Nobody reads its data."""
    nothing = TensorDataset(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))
    return next(iter(benchmark_from_datasets(train=[AvalancheDataset([nothing])]).train_stream))


if __name__ == "__main__":
    main()
