"""CPU time of our optimizer step, against a loop written by hand with the same network, loss, optimizer and batches.

python -m benchmarks.loop [--pairs 40] [--limit-ms 2] [--limit 0.03]

Two networks: one 1×1×1 convolution on a patch of 1×1×1 voxels, where nothing costs but the loop itself, and the default
network on 48³. Both loops run in one process, in turns, on the same patches in memory, with autocast off, clipping and the
default augmentation; their weights are compared at the end, to the bit. A pair is a block of steps of each. Ends with 1 where
the mean of a pair's differences, or its ratio, has a 95 % upper bound above the limit.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.overhead import Open, Patches, bound, in_turns
from lifelong_ct.avalanche_bridge import AvalancheDataset, benchmark_from_datasets
from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.host_memory import steady_heap
from lifelong_ct.core.seeding import derive_seed
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.training.augment import Augment

ORGANS = ["liver", "spleen"]
OPTIMIZER = partial(torch.optim.AdamW, lr=1e-2, weight_decay=1e-4)
CLIP = 1.0
AUGMENT = Augment(10.0, 10.0, 0.05)


class ByHand:
    """What one would write: no hooks, no plugins, nothing that can be resumed."""

    def __init__(self, model: nn.Module, loss: nn.Module, source: Patches) -> None:
        self.model, self.loss, self.source = model, loss, source
        self.optimizer, self.step = OPTIMIZER(model.parameters()), 0

    def block(self, steps: int) -> float:
        """CPU seconds of some steps."""
        begin = time.process_time()
        self.model.train()
        for _ in range(steps):
            batch = self.source.batch(self.step)
            x, y = AUGMENT(batch.x, batch.y, derive_seed(0, self.step, 0))
            self.optimizer.zero_grad()
            loss = self.loss(self.model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
            self.optimizer.step()
            if not math.isfinite(loss.item()):
                raise ArithmeticError(f"the loss is {loss.item()}")
            self.step += 1
        return time.process_time() - begin


def smallest() -> nn.Module:
    """Two parameters, and those of the head."""
    torch.manual_seed(0)
    return SegmentationModel(nn.Conv3d(1, 1, 1), features=1)


def default() -> nn.Module:
    """The network of the configuration."""
    torch.manual_seed(0)
    return build(_values()["model"], "model").to(memory_format=torch.channels_last_3d)


def _values() -> dict[str, Any]:
    return compose.plain(compose.compose(compose.Request([])))


def opened(network: nn.Module, space: LabelSpace, source: Patches, **options: Any) -> Open:
    """Our loop inside an experience of these patches."""
    ours = Open(
        **{
            "model": network,
            "criterion": build(_values()["loss"], "loss", label_space=space),
            "optimizer": OPTIMIZER,
            "width": lambda: space.width,
            "batch_size": 1,
            "clip": CLIP,
            "schedule": "constant",
            "augment": AUGMENT,
            **options,
        }
    )
    (experience,) = benchmark_from_datasets(train=[AvalancheDataset([source])]).train_stream
    ours.enter(experience, source)
    return ours


def hospital(edge: int) -> tuple[LabelSpace, Patches]:
    """Its organs and patches."""
    space = LabelSpace(ORGANS)
    space.see(ORGANS)
    return space, Patches(space, ORGANS, edge, 0, 1)


def loops(make: Callable[[], nn.Module], edge: int) -> tuple[Open, ByHand]:
    """Ours, and the one by hand, from the same weights."""
    space, source = hospital(edge)
    ours, model = opened(make(), space, source), make()
    model.grow(space.width)  # type: ignore[operator]
    model.load_state_dict(ours.model.state_dict())
    return ours, ByHand(model, build(_values()["loss"], "loss", label_space=space), source)


def measured(make: Callable[[], nn.Module], edge: int, pairs: int, steps: int) -> list[tuple[float, float]]:
    """Seconds per step of (ours, by hand) of each pair, after one to warm up.

    Raises:
        AssertionError: they did not do the same.
    """
    ours, hand = loops(make, edge)
    found = [(a / steps, b / steps) for a, b in in_turns(ours, hand, pairs, steps)]
    for name, weight in ours.model.state_dict().items():
        assert torch.equal(weight, hand.model.state_dict()[name]), f"{name} differs"
    return found


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=40, help="at least 10; the fewer, the wider the bound")
    parser.add_argument("--limit-ms", type=float, default=2.0, help="per step, 1×1×1 network")
    parser.add_argument("--limit", type=float, default=0.03, help="share of a step at 48³")
    given = parser.parse_args()
    torch.set_num_threads(1)
    steady_heap()  # as a run does, else page faults decide: which loop has more of them is luck
    print(f"{given.pairs} pairs, one thread, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}\n")
    print("| network, patch | by hand, ms | ours more | upper bound | limit | |\n|---|---|---|---|---|---|")
    small = measured(smallest, 1, given.pairs, 50)
    mean, most = bound([1e3 * (ours - hand) for ours, hand in small])
    held = [most <= given.limit_ms]
    hand = 1e3 * float(np.median([h for _, h in small]))
    _row("1×1×1, 1³", hand, f"{mean:.2f} ms", f"{most:.2f} ms", f"{given.limit_ms:g} ms", held[-1])
    large = measured(default, 48, given.pairs, 3)
    mean, most = (math.exp(value) - 1 for value in bound([math.log(ours / hand) for ours, hand in large]))
    held.append(most <= given.limit)
    hand = 1e3 * float(np.median([h for _, h in large]))
    _row("default, 48³", hand, f"{mean:.1%}", f"{most:.1%}", f"{given.limit:.0%}", held[-1])
    print("\nthe weights of both loops are equal to the bit")
    return 0 if all(held) else 1


def _row(*cells: Any) -> None:
    network, hand, more, most, limit, held = cells
    verdict = "held" if held else "**broken**"
    print(f"| {network} | {hand:.2f} | {more} | {most} | {limit} | {verdict} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
