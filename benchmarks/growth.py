"""Predicted GPU bytes after 20 hospitals beside those after 2, the organs being the same: of every strategy, without data.

python -m benchmarks.growth [strategy …]

A strategy without `grows` in its YAML must need the same bytes in the last of 20 experiences as in the second. Of the others
the prediction from two experiences, with the growth that their formula declares, must lie within 5 % of what twenty need.
Ends with 1 where that does not hold.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.planner import blueprint
from lifelong_ct.cli.conf import own_folder
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.prediction.fallback import NEEDS_DATA
from lifelong_ct.training.prediction.peaks import Prediction
from lifelong_ct.training.prediction.rehearsal import END, TRAINING, rehearse
from lifelong_ct.training.rounds import Round, rounds

HOSPITALS, PATCH, WITHIN = 20, 32, 0.05


def rehearsed(options: RunOptions, plan: Sequence[Round], count: int) -> Prediction:
    """Of so many experiences; with data where an operation needs them."""
    try:
        return rehearse(options, plan, experiences=count)
    except NEEDS_DATA:
        return rehearse(options, plan, experiences=count, real=True)


def needed(found: Prediction, experience: int) -> int:
    """Most bytes while it is trained and until the next one begins."""
    names = [f"{part} {experience}" for part in (TRAINING, END)]
    return max(phase.nbytes for phase in found.phases if phase.phase in names)


def row(strategy: str) -> tuple[str, bool]:
    """Of the table, and whether it holds."""
    with tempfile.TemporaryDirectory() as folder:
        made = blueprint(strategy, PATCH, Path(folder), "stream=phantom_long", f"stream.first={HOSPITALS}")
        options = made.options()
        plan = rounds(options)
        few, many = (rehearsed(options, plan, count) for count in (2, HOSPITALS))
    grows = made.values["strategy"].get("grows")
    if len(plan) == 1:
        return f"| {strategy} | {_mb(few.peak)} | – | – | one experience |", True
    second, last = needed(many, 2), needed(many, len(plan))
    told = few.peak
    holds = abs(told / many.peak - 1) <= WITHIN if grows else second == last
    verdict = ("as declared" if grows else "equal") if holds else "**broken**"
    return f"| {strategy} | {_mb(second)} | {_mb(last)} | {_mb(told)} / {_mb(many.peak)} | {verdict} |", holds


def _mb(nbytes: int) -> str:
    return f"{nbytes / 1e6:.2f} MB"


def main(strategies: Sequence[str]) -> int:
    """Prints the table."""
    print(f"{HOSPITALS} hospitals, default network, patches of {PATCH}³, batch 1\n")
    print(
        "| strategy | hospital 2 | the last one | peak predicted from 2 / rehearsed with 20 | |\n|---|---|---|---|---|"
    )
    held = []
    for strategy in strategies:
        text, holds = row(strategy)
        print(text, flush=True)
        held.append(holds)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [path.stem for path in sorted((own_folder() / "strategy").glob("*.yaml"))]))
