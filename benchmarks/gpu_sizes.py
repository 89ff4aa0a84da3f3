"""What GPU a network and a strategy need, and what makes them fit a smaller one. Nothing is trained, no GPU is needed.

python -m benchmarks.gpu_sizes > docs/guide/gpu_sizes.md

Prints the page of the guide: predicted bytes per network and strategy, and for 8, 16, 24 and 80 GB the cheapest change.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.planner import blueprint
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.prediction.fitting import Way, fit
from lifelong_ct.training.prediction.reserve import STATED
from lifelong_ct.training.rounds import rounds

NETWORKS, STRATEGIES = ("unet", "segresnet", "swinunetr"), ("naive", "replay", "ewc", "lwf", "der")
SIZES = (8, 16, 24, 80)
EDGE, BATCH = 128, 2
SHORT = {"trainer.": "", "strategy.plugins.0.": "", "checkpointing=true": "checkpointing"}
TOP = f"""# Which GPU

Made by `python -m benchmarks.gpu_sizes`, without a GPU: predicted, calibrated on CPU. Patches of {EDGE}\u00b3,
`trainer.batch_size={BATCH}`, AdamW, float32, the organs of `stream=phantom`. Needed is the peak of all tensors, and a reserve:
{STATED.context >> 20} MiB for CUDA, {STATED.workspaces >> 20} MiB for workspaces, {STATED.fragments:.0%} of the peak for fragments. Below a size stands
what `lifelong-ct plan memory.gpu=8GB` would propose: the cheapest change that keeps the effective batch, \u2713 where nothing has
to change, \u2013 where nothing helps but smaller patches. `batch_size`, `accumulate`, `checkpointing` and `optimizer_state` are keys
of `trainer`, `exemplars_per_batch` is the strategy's.

| network | strategy | needed GB | {" | ".join(f"{size} GB" for size in SIZES)} |
|---|---|---|{"---|" * len(SIZES)}"""


def options(network: str, strategy: str, folder: Path) -> RunOptions:
    """Of a run on the phantom stream."""
    return blueprint(strategy, EDGE, folder, f"model={network}", f"trainer.batch_size={BATCH}").options()


def row(network: str, strategy: str) -> str:
    """A line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        opts = options(network, strategy, Path(folder))
        tried: list[tuple[Way, int]] = []
        fit(opts, rounds(opts), min(SIZES) * 10**9, told=lambda way, needed: tried.append((way, needed)))
        cells = []
        for size in SIZES:
            way = next((way for way, needed in tried if needed <= size * 10**9), None)
            cells.append("\u2013" if way is None else short(way.overrides(opts)) or "\u2713")
    return f"| {network} | {strategy} | {tried[0][1] / 1e9:.1f} | {' | '.join(cells)} |"


def short(overrides: list[str]) -> str:
    """Overrides without what they have in common."""
    text = ", ".join(overrides)
    for long, brief in SHORT.items():
        text = text.replace(long, brief)
    return text


def main() -> int:
    """Prints the page."""
    print(TOP, flush=True)
    for network in NETWORKS:
        for strategy in STRATEGIES:
            print(row(network, strategy), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
