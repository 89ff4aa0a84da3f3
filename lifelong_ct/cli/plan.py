"""The verb `plan`: what a run would hold, and whether it fits."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from lifelong_ct.cli import compose
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.core.units import format_bytes
from lifelong_ct.training import planner
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.run import Run


class Silent:
    """A reporter that says nothing."""

    def event(self, name: str, **data: object) -> None:
        """Nothing is reported: nothing runs."""

    def close(self, status: str) -> None:
        """Nothing was opened."""


def main(args: Sequence[str]) -> int:
    """Prints the table.

    Raises:
        LimitExceeded: it does not fit.
    """
    request = compose.parse(args)
    blueprint = Blueprint(compose.compose(request), request.overrides)
    with blueprint.discreet():
        return _plan(blueprint.options())


def _plan(options: RunOptions) -> int:
    run = Run(options, Silent())
    demands = run.demands()
    table = Table("kind", "who", "at least", "limit", "basis", title="what the run would hold")
    for row in demands:
        limit = run.ledger.limits[row.kind]
        table.add_row(
            row.kind, row.owner, format_bytes(row.nbytes), format_bytes(limit) if limit else "–", row.basis
        )
    console = Console()
    console.print(table)
    steps = sum(row.steps for row in run.rounds)
    console.print(f"{len(run.rounds)} experiences, {steps} optimizer steps", end="")
    console.print(f", about {steps * seconds_per_step(options) / 60:.0f} min of steps on this device")
    planner.check(run.ledger, demands)
    return 0


def seconds_per_step(options: RunOptions) -> float:
    """Forward and backward passes of one optimizer step on random patches, after one to warm up; without
    the strategy's own work."""
    model = options.new_model()
    model.grow(1 + len(options.stream.label_space.organs))  # type: ignore[operator]
    x = torch.zeros(
        (options.trainer.batch_size, options.stream.channels, *options.stream.patch), dtype=torch.int16
    )
    for _ in range(2):
        start = time.perf_counter()
        for _ in range(options.trainer.accumulate):
            model(x).square().mean().backward()
        elapsed = time.perf_counter() - start
    return elapsed
