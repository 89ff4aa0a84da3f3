"""The verb `ingest`: fills the volume store, so that later runs start at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from lifelong_ct.cli import compose
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.core.host_memory import give_back, steady_heap
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.units import format_bytes
from lifelong_ct.data.ingest import Ingest
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.reporting.text import duration
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.training.rounds import rounds
from lifelong_ct.training.spacing import first_hospitals, run_spacing

FLAG = "--rehash"


class Rate(ProgressColumn):
    """Cases per minute, or minutes per case where they are fewer."""

    def render(self, task: Task) -> Text:
        """Nothing before there is something to go by."""
        return Text(rate(task.finished_speed or task.speed), style="progress.data.speed")


def rate(per_second: float | None) -> str:
    """0.5 → `30.0 cases/min`, 1/300 → `5 min/case`."""
    if not per_second:
        return ""
    return f"{60 * per_second:.1f} cases/min" if per_second >= 1 / 60 else f"{duration(1 / per_second)}/case"


def main(args: Sequence[str]) -> int:
    """Reads every training case of the stream once, then the test cases as far as they fit, and says what they take:
    a tenth of the training bytes is a usual `memory.exemplars`.

    `--rehash` hashes all files again, whatever is remembered of their sizes and times, and checks every stored
    volume to its last byte.
    """
    request = compose.parse([arg for arg in args if arg != FLAG])
    blueprint = Blueprint(compose.compose(request), request.overrides)
    with blueprint.discreet():
        return Filling(blueprint, rehash=FLAG in args).run()


class Filling:
    """One call of the verb.

    Args:
        blueprint: the configuration.
        rehash: see `main`.
    """

    def __init__(self, blueprint: Blueprint, rehash: bool) -> None:
        options = blueprint.options()
        self._name, self._rehash = options.identity.of, rehash
        self._stream, self._workers = options.stream, options.data.ingesters
        self._arriving = {hospital.key: hospital for row in rounds(options) for hospital in row.hospitals}
        self._spacing = run_spacing(self._stream, first_hospitals(self._stream, options.requires))
        ledger = Ledger({kind: options.limits.get(kind) for kind in ("disk", "ram")})
        self._store = VolumeStore(options.store, ledger, 0)
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def run(self) -> int:
        """Exit code."""
        steady_heap()
        try:
            with self._bar:
                nbytes = {split: self._fill(split) for split in ("train", "test")}
        finally:
            self._store.close()
        for split, held in nbytes.items():
            print(f"{split}: {held} bytes ({format_bytes(held)}) compressed")
        return 0

    def _fill(self, split: str) -> int:
        """Bytes of the split's volumes."""
        every = list(self._arriving.values()) if split == "train" else self._stream.scored
        hospitals = [hospital for hospital in every if not hospital.private]
        for hospital in every:
            if hospital.private:
                self._say(
                    f"{hospital.key}: sharing: {hospital.sharing}, so its {split} cases are not stored; a run reads them "
                    "when it needs them, and keeps none"
                )
        task = self._bar.add_task(split, total=sum(len(getattr(hospital, split)) for hospital in hospitals))
        before, done = self._store.nbytes, 0
        for hospital in hospitals:
            self._hospital(hospital, split, task, done)
            done += len(getattr(hospital, split))
            give_back()
        return self._store.nbytes - before

    def _hospital(self, hospital: Hospital, split: str, task: TaskID, done: int) -> None:
        cases, began, before = getattr(hospital, split), time.monotonic(), self._store.written
        self._bar.update(task, description=f"{hospital.key}, {split}")
        ingest = Ingest(
            hospital.layout,
            self._store,
            self._spacing if split == "train" else None,
            partial(self._advance, task, done),
            workers=self._workers,
            rehash=self._rehash,
            name=self._name,
            note=self._say,
        )
        left = 0
        if split == "train":
            ingest.every(cases)
        else:
            left = sum(volume is None for volume in ingest.what_fits(cases))
        if left:
            self._say(
                f"{hospital.name}: {left} of {len(cases)} test cases do not fit into memory.disk; a run reads them "
                "from their source"
            )
        if not self._console.is_terminal:
            seconds, new = time.monotonic() - began, self._store.written - before
            speed = rate(len(cases) / max(seconds, 1e-3))
            self._say(
                f"{hospital.key}: {len(cases)} {split} cases in {duration(seconds)} ({speed}), "
                f"{format_bytes(new)} written"
            )

    def _advance(self, task: TaskID, before: int, done: int, total: int) -> None:
        self._bar.update(task, completed=before + done)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)
