"""Predicted peaks of a run's tensors against what PyTorch's allocator gave.

python -m benchmarks.planner [--quick] [--only segresnet/ewc/48]

Predicted: in a process of its own, on tensors without data. Measured: the learner, loss and strategy of the run with real
tensors for two optimizer steps at each of two hospitals and a window, the sum of all allocations and releases that
`torch.profiler` saw on the CPU. Not the resident size, which has libraries, oneDNN's own memory and fragments in it. Ends
with 1 where a prediction is more than 5 % below or 10 % above.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from lifelong_ct.avalanche_bridge.stock import adopt
from lifelong_ct.cli import compose
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.evaluation.inference import evaluating
from lifelong_ct.training.building import Builder
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.prediction.allocator import allocated
from lifelong_ct.training.prediction.imagined import ImaginedPatches
from lifelong_ct.training.prediction.rehearsal import STEPS, rehearse
from lifelong_ct.training.rounds import rounds

EDGES = {"unet": (48, 64), "segresnet": (32, 48), "dynunet": (32, 48), "swinunetr": (64, 96)}
STRATEGIES = ("naive", "replay", "ewc", "lwf", "der")
QUICK = [("unet", strategy, 48) for strategy in STRATEGIES] + [("segresnet", "naive", 48)]
TOO_LARGE = [(network, "lwf", 192) for network in EDGES]
UNDER, OVER = 0.95, 1.10
SECONDS, MEMORY = 30.0, 2e9


def blueprint(strategy: str, edge: int, folder: Path, *overrides: str) -> Blueprint:
    """Of a run with patches of `edge`³, whose files lie in a folder."""
    paths = [f"paths.{key}={folder / key}" for key in ("runs", "store", "state")]
    wanted = [f"strategy={strategy}", f"stream.patch=[{edge},{edge},{edge}]", *paths, *overrides]
    return Blueprint(compose.compose(compose.Request(wanted)), wanted)


def options(network: str, strategy: str, edge: int, folder: Path) -> RunOptions:
    """Of a run on the phantom stream."""
    few = ["strategy.plugins.0.patches=2"] if strategy == "ewc" else []
    return blueprint(strategy, edge, folder, f"model={network}", *few).options()


def predicted(network: str, strategy: str, edge: int) -> dict[str, float]:
    """Peak in bytes; CPU seconds and most resident bytes of the process, imports included."""
    with tempfile.TemporaryDirectory() as folder:
        opts = options(network, strategy, edge, Path(folder))
        found = rehearse(opts, rounds(opts))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return {"peak": found.peak, "all": time.process_time(), "rss": rss}


def measured(network: str, strategy: str, edge: int) -> int:
    """Most bytes that the allocator had given at once."""
    with tempfile.TemporaryDirectory() as folder:
        opts = options(network, strategy, edge, Path(folder))
        return allocated(lambda: steps(opts))


def steps(opts: RunOptions, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Two hospitals and a window, with data; the weights."""
    rows = rounds(opts)
    plugins = [adopt(plugin) for plugin in opts.new_plugins()]
    builder = Builder(opts, Ledger(opts.limits), torch.device(device), plugins, rows)
    builder.bound()
    learner = builder.learner(lambda report: None)
    builder.space.see(builder.space.organs)
    patches = ImaginedPatches((opts.trainer.batch_size, builder.stream.channels, *builder.stream.patch))
    for experience, _ in zip(builder.stream.benchmark([patches] * len(rows)).train_stream, rows[:2]):
        learner.learn(experience, patches, STEPS)
    with evaluating(learner.model):
        learner.model(torch.zeros((1, builder.stream.channels, *opts.evaluation.roi), device=device)).float()
    return dict(learner.model.state_dict())


def child(*cell: object, verb: str) -> dict[str, float]:
    """`predicted` or `measured` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.planner", verb, *map(str, cell)]
    told = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if told.returncode:
        raise RuntimeError(told.stderr[-2000:])
    found: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Prints the table; 1 where a row is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="six small cells")
    parser.add_argument("--only", help="network/strategy/edge, comma-separated")
    args = parser.parse_args()
    cells = [(n, s, e) for n, edges in EDGES.items() for e in edges for s in STRATEGIES]
    cells = QUICK if args.quick else cells
    if args.only:
        cells = [(n, s, int(e)) for n, s, e in (cell.split("/") for cell in args.only.split(","))]
    print(
        "| network | strategy | patch | predicted MB | measured MB | ratio | CPU s | RSS MB |\n|---|---|---|---|---|---|---|---|"
    )
    bad = 0
    for cell in cells + ([] if args.quick or args.only else TOO_LARGE):
        network, strategy, edge = cell
        told = child(*cell, verb="predicted")
        line = f"| {network} | {strategy} | {edge}³ | {told['peak'] / 1e6:.1f} |"
        within = told["all"] < SECONDS and told["rss"] < MEMORY
        if edge < 192:
            peak = child(*cell, verb="measured")["peak"]
            ratio = told["peak"] / peak
            within = within and UNDER <= ratio <= OVER
            line += f" {peak / 1e6:.1f} | {ratio:.3f} |"
        else:
            line += " not here | – |"
        bad += not within
        print(
            f"{line} {told['all']:.1f} | {told['rss'] / 1e6:.0f} |{'' if within else ' **out**'}", flush=True
        )
    print(f"\n{bad} of {len(cells)} out of bounds")
    return int(bad > 0)


if __name__ == "__main__":
    if sys.argv[1:2] in (["predicted"], ["measured"]):
        arguments = sys.argv[2], sys.argv[3], int(sys.argv[4])
        print(
            json.dumps(
                predicted(*arguments) if sys.argv[1] == "predicted" else {"peak": measured(*arguments)}
            )
        )
        sys.exit()
    sys.exit(main())
