"""What `plan` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from lifelong_ct.core.units import format_bytes
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.planner import LEAST_SHARE, Demand, least_bytes
from lifelong_ct.training.prediction.peaks import Prediction
from lifelong_ct.training.prediction.reserve import Reserve
from lifelong_ct.training.spacing import run_spacing


def holders(demands: Sequence[Demand], limits: Mapping[str, int | None]) -> Table:
    """Who holds what, at least."""
    table = Table("kind", "who", "at least", "limit", "basis", title="what the run would hold")
    for row in demands:
        limit = limits[row.kind]
        table.add_row(
            row.kind, row.owner, format_bytes(row.nbytes), format_bytes(limit) if limit else "–", row.basis
        )
    return table


def disk(options: RunOptions) -> str:
    """Of each hospital's volumes."""
    hospitals = options.stream.hospitals
    spacing = run_spacing(options.stream, hospitals)
    least = [least_bytes(hospital, spacing, options.stream.channels) for hospital in hospitals]
    low, high = format_bytes(min(least)), format_bytes(max(least) / LEAST_SHARE)
    return f"disk per hospital: {low} (the smallest, at best) to {high} (the largest, uncompressed)"


def phases(found: Prediction) -> Table:
    """Peak of each phase."""
    table = Table("phase", "peak of tensors", title=f"predicted, {found.basis}")
    for phase in found.phases[1:]:
        table.add_row(phase.phase + (" ◀" if phase is found.worst else ""), format_bytes(phase.nbytes))
    return table


def kinds(found: Prediction, reserve: Reserve | None) -> Table:
    """What the worst phase is made of, and the reserve where a GPU is meant."""
    table = Table("kind", "bytes", "share", title=f"the peak by kind: {found.worst.phase}")
    whole = found.peak + (reserve.beside(found.peak) if reserve else 0)
    rows = [*found.kinds.items()]
    if reserve:
        rows += [
            ("reserve: context", reserve.context),
            ("reserve: workspaces", reserve.workspaces),
            (f"reserve: fragments, {reserve.fragments:.0%}", int(reserve.fragments * found.peak)),
        ]
    for kind, nbytes in rows:
        table.add_row(kind, format_bytes(nbytes), f"{nbytes / whole:.0%}")
    table.add_row("together", format_bytes(whole), reserve.told if reserve else "")
    return table


def applied(told: Mapping[str, Any]) -> str:
    """What `memory.gpu=fit` would do."""
    changes = " ".join(told["overrides"]) or "nothing has to change"
    return f"memory.gpu=fit, {format_bytes(told['available'])}: {changes} (needs {format_bytes(told['predicted'])})"
