"""What precision, order of axes and kernels do to the time of an optimizer step on this CPU, and precision to its Dice.

python -m benchmarks.precision [--pairs 20] [--patch 48] [--compile]

Each row is the default but for one setting; a pair is a block of steps of it and one of the default, in one process, in turns.
The default is fp32, `trainer.channels_last=auto` and `trainer.fused=auto`.

    lifelong-ct group=precision trainer.amp=null,bf16 seed=0,1,2 paths.runs=runs/precision -m
    python -m benchmarks.precision --runs runs/precision

shows the ACC of finished runs for each precision, with a 95 % interval over patients and seeds, and ends with 1 where a mean
lies outside of another precision's interval.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.loop import OPTIMIZER, default, hospital, opened
from benchmarks.overhead import Open, bound, in_turns
from lifelong_ct.core.host_memory import steady_heap
from lifelong_ct.evaluation.resampling import PatientDraws, over_seeds
from lifelong_ct.reporting.collecting import collect
from lifelong_ct.training.stepping import compile_network

ROWS = {
    "bf16": "trainer.amp=bf16",
    "contiguous": "trainer.channels_last=false",
    "fused": "trainer.fused=true",
    "compiled": "trainer.compile=true",
}


def learner(name: str, edge: int) -> Open:
    """The default, but for one setting."""
    space, source = hospital(edge)
    network, options = default(), dict[str, Any]()
    if name == "contiguous":
        network = network.to(memory_format=torch.contiguous_format)
    if name == "bf16":
        options["amp"] = name
    if name == "fused":
        options["optimizer"] = partial(OPTIMIZER, fused=True)
    if name == "compiled":
        compile_network(network)
    return opened(network, space, source, **options)


def ratios(name: str, edge: int, pairs: int, steps: int) -> tuple[list[float], float]:
    """Of each pair after one to warm up, and the default's median seconds per step."""
    plain, other = learner("default", edge), learner(name, edge)
    found = in_turns(plain, other, pairs, steps)
    return [b / a for a, b in found], float(np.median([a for a, _ in found])) / steps


def steps_table(given: argparse.Namespace) -> int:
    """Prints the ratio of each setting."""
    print(
        f"default network, patch {given.patch}³, {given.pairs} pairs, one thread, torch {torch.__version__}, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    print("\n| setting | time of a step, default = 1 | 95 % at most | at least |\n|---|---|---|---|")
    for name, setting in ROWS.items():
        if name == "compiled" and not given.compile:
            continue
        found, seconds = ratios(name, given.patch, given.pairs, 2)
        logs = [math.log(ratio) for ratio in found]
        mean, most = bound(logs)
        print(
            f"| {setting} | {math.exp(mean):.3f} | {math.exp(most):.3f} | {math.exp(2 * mean - most):.3f} |",
            flush=True,
        )
    print(f"\na step of the default: {1e3 * seconds:.0f} ms")
    return 0


def dice_table(runs: Path) -> int:
    """Prints ACC per precision."""
    by_precision = defaultdict(list)
    for run in collect(runs).finished:
        by_precision[(run.config.get("trainer") or {}).get("amp") or "fp32"].append(run)
    draws = PatientDraws([run.matrix for each in by_precision.values() for run in each])
    intervals = {}
    for name, own in by_precision.items():
        values = np.stack([draws.accuracy(run.matrix, list(run.tasks.values())) for run in own])
        drawn = over_seeds(values)
        low, high = np.nanquantile(drawn[1:], [0.025, 0.975])
        intervals[name] = float(drawn[0]), float(low), float(high), len(own)
    print("| precision | seeds | final Dice | 95 % interval | inside the others' |\n|---|---|---|---|---|")
    held = []
    for name, (mean, low, high, seeds) in intervals.items():
        others = [each for other, each in intervals.items() if other != name]
        held.append(all(least <= mean <= most for _, least, most, _ in others))
        print(
            f"| {name} | {seeds} | {mean:.4f} | {low:.4f} to {high:.4f} | {'yes' if held[-1] else '**no**'} |"
        )
    return 0 if all(held) and len(intervals) > 1 else 1


def main() -> int:
    """Prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=20, help="at least 10")
    parser.add_argument("--patch", type=int, default=48, help="edge in voxels")
    parser.add_argument(
        "--compile", action="store_true", help="also torch.compile, which takes a minute to begin"
    )
    parser.add_argument("--runs", type=Path, help="folder of finished runs of several precisions")
    given = parser.parse_args()
    torch.set_num_threads(1)
    steady_heap()
    return steps_table(given) if given.runs is None else dice_table(given.runs)


if __name__ == "__main__":
    sys.exit(main())
