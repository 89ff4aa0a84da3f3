"""The verb `plan`: what a run would hold, and whether it fits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from rich.console import Console

from lifelong_ct.cli import compose, plan_tables
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.units import format_bytes
from lifelong_ct.training import planner
from lifelong_ct.training.group import Silent
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.prediction.fallback import predict
from lifelong_ct.training.prediction.fitting import fit, fitted
from lifelong_ct.training.prediction.peaks import Prediction
from lifelong_ct.training.run import Run

CALIBRATION = 64
"""Voxels per axis of the patch that a step is timed on, at most."""


def main(args: Sequence[str]) -> int:
    """Prints the tables.

    Raises:
        LimitExceeded: it does not fit.
    """
    request = compose.parse(args)
    blueprint = Blueprint(compose.compose(request), request.overrides)
    with blueprint.discreet():
        return _plan(blueprint.options(), float(blueprint.values["strategy"].get("overhead") or 1))


def _plan(options: RunOptions, overhead: float) -> int:
    on_cuda = meant_for_cuda(options)
    here = replace(options, trainer=replace(options.trainer, device=_here(options.trainer.device)))
    run, console = Run(here, Silent()), Console()
    demands = run.demands()
    console.print(plan_tables.holders(demands, run.ledger.limits))
    ram = sum(row.nbytes for row in demands if row.kind == "ram")
    console.print(f"host RAM: at least {format_bytes(ram)}; {plan_tables.disk(options)}")
    steps = sum(row.steps for row in run.rounds)
    console.print(f"{len(run.rounds)} experiences, {steps} optimizer steps", end="")
    minutes = steps * seconds_per_step(here) * overhead / 60
    console.print(f", about {minutes:.0f} min of steps on this machine's {'CPU' if on_cuda else 'processor'}")
    planner.check(run.ledger, demands)
    if options.fit is not None:
        applied = fitted(options, run.rounds)
        assert applied.fitted is not None
        console.print(plan_tables.applied(applied.fitted))
        options = applied
    _predicted(console, options, run, on_cuda)
    return 0


def _predicted(console: Console, options: RunOptions, run: Run, on_cuda: bool) -> None:
    try:
        found = predict(options, run.rounds, on_cuda)
    except LifelongCTError:
        raise
    except Exception as error:  # of a network or strategy that no rehearsal knows; the demands stand above
        console.print(f"the peak of tensors is not predicted: {type(error).__name__}: {str(error)[:200]}")
        return
    console.print(plan_tables.phases(found))
    console.print(plan_tables.kinds(found, options.reserve if on_cuda else None))
    limit = run.ledger.limits["gpu"]
    if limit is not None and on_cuda:
        _check(console, options, run, found, limit)


def _check(console: Console, options: RunOptions, run: Run, found: Prediction, limit: int) -> None:
    needed = found.peak + options.reserve.beside(found.peak)
    if needed <= limit:
        console.print(f"margin to memory.gpu: {format_bytes(limit - needed)} of {format_bytes(limit)}")
        return
    cheaper = fit(options, run.rounds, limit)
    ways = (
        "write " + " ".join(cheaper.way.overrides(options)) + f" (needs {format_bytes(cheaper.needed)})"
        if cheaper
        else "use smaller patches (stream.patch), a smaller network or another GPU: nothing else fits"
    )
    raise LimitExceeded(
        f"the run needs {format_bytes(needed)} of GPU memory, {format_bytes(needed - limit)} more than there are",
        f"memory.gpu={format_bytes(limit)}",
        ways,
    )


def meant_for_cuda(options: RunOptions) -> bool:
    """Whether the plan is for a GPU: one is there, asked for, or has a limit."""
    device = options.trainer.device
    asked = options.limits.get("gpu") is not None or options.fit is not None
    return device.startswith("cuda") or (device == "auto" and (asked or torch.cuda.is_available()))


def _here(device: str) -> str:
    """A device of this machine, which may not be the one that is planned for."""
    return "cpu" if device.startswith("cuda") and not torch.cuda.is_available() else device


def seconds_per_step(options: RunOptions) -> float:
    """Forward and backward passes of one optimizer step on random patches, after one to warm up; without
    the strategy's own work. One patch is timed, a large one as a smaller one, and they count by their voxels."""
    model = options.new_whole_model()
    patch = [min(n, CALIBRATION) for n in options.stream.patch]
    share = torch.Size(options.stream.patch).numel() / torch.Size(patch).numel()
    x = torch.zeros((1, options.stream.channels, *patch), dtype=torch.int16)
    for _ in range(2):
        start = time.perf_counter()
        model(x).square().mean().backward()
        elapsed = time.perf_counter() - start
    return elapsed * share * options.trainer.batch_size * options.trainer.accumulate
