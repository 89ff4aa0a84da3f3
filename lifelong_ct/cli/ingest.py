"""The verb `ingest`: fills the volume store, so that later runs start at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lifelong_ct.cli import compose
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.units import format_bytes, parse_bytes
from lifelong_ct.data.ingest import ingest
from lifelong_ct.data.store import VolumeStore


def main(args: Sequence[str]) -> int:
    """Reads every training and test case of the stream once, and says what they take: a tenth of the training
    bytes is a usual `memory.exemplars`."""
    request = compose.parse(args)
    blueprint = Blueprint(compose.compose(request), request.overrides)
    with blueprint.discreet():
        return _ingest(blueprint)


def _ingest(blueprint: Blueprint) -> int:
    stream = blueprint.stream()
    ledger = Ledger({"disk": blueprint.values["memory"]["disk"]})
    cache = parse_bytes(blueprint.values["data"]["cache"], "data.cache")
    store = VolumeStore(Path(blueprint.values["paths"]["store"]), ledger, cache)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    nbytes = {"train": 0, "test": 0}
    with Progress(*columns, disable=not sys.stdout.isatty()) as bar:
        for hospital in (*stream.hospitals, *stream.unseen):
            for split, cases, spacing in (
                ("train", hospital.train, stream.spacing),
                ("test", hospital.test, None),
            ):
                before = store.nbytes
                on_case = partial(_advance, bar, bar.add_task(hospital.name, total=len(cases)))
                ingest(hospital.layout, list(cases), store, spacing, on_case=on_case)
                nbytes[split] += store.nbytes - before
    store.close()
    for split, held in nbytes.items():
        print(f"{split}: {held} bytes ({format_bytes(held)}) compressed")
    return 0


def _advance(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)
