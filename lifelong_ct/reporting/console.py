"""The terminal: progress with time left, the result matrix at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting import text as words
from lifelong_ct.reporting.run_folder import PAGE
from lifelong_ct.reporting.text import duration, number, size, stored

QUIET_SECONDS = 15.0
"""Between two lines of progress where there is no terminal."""
WARM_UP = 5
"""Steps before time left is told: the first ones load libraries and read data."""


class TimeLeft:
    """Of a whole run, from the steps and seconds so far; evaluation and reading count as they come.

    Args:
        total: steps still to do when the session begins.
        clock: seconds.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done = total, 0
        self._clock, self._start = clock, clock()

    def seconds(self) -> float | None:
        """Seconds left; None before there is something to go by."""
        if self.done < min(WARM_UP, self.total):
            return None
        return (self._clock() - self._start) / self.done * max(self.total - self.done, 0)


class Console:
    """A progress bar on a terminal; elsewhere plain lines, without control characters.

    Args:
        folder: of the run, to say where the page is.
        stream: where to write; standard output where None.
        clock: seconds.
    """

    def __init__(
        self, folder: Path, stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self._clock = folder, clock
        self._rich = RichConsole(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._left = TimeLeft(1, clock)
        self._experiences, self._place, self._step, self._spoken = 0, "", 0, -QUIET_SECONDS

    def event(self, name: str, **data: Any) -> None:
        """Shows what an event brings; others are passed over."""
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None:
            handler(**data)

    def close(self, status: str) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _on_run_started(
        self, *, run: Mapping[str, Any], experiences: int, total_steps: int, done: int, **_: Any
    ) -> None:
        self._experiences = experiences
        self._left = TimeLeft(round(total_steps * (experiences - done) / experiences), self._clock)
        self._say(f"{run['name']}: {run['strategy']}" + (f", after experience {done}" if done else ""))
        if self._rich.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[left]}"),
            )
            self._bar = Progress(*columns, console=self._rich, transient=True)
            self._task = self._bar.add_task("starting", total=self._left.total, left="")
            self._bar.start()

    def _on_experience_started(self, *, after: int, hospital: str, steps: int, cases: int) -> None:
        self._place, self._step = f"{after}/{self._experiences} {hospital}", 0
        if self._bar is None:
            self._say(f"[{self._place}] {words.plural(cases, 'case')}, {words.plural(steps, 'step')}")

    def _on_step(self, *, step: int, steps: int, loss: float, **_: Any) -> None:
        self._left.done += 1
        self._step = step + 1
        line = f"[{self._place}] step {self._step}/{steps}, loss {number(loss)}"
        seconds = self._left.seconds()
        left = "" if seconds is None else f"{duration(seconds)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._left.done, description=escape(line), left=left)
        elif self._clock() - self._spoken >= QUIET_SECONDS:
            self._spoken = self._clock()
            self._say(f"{line}, {left}" if left else line)

    def _on_stage(self, *, text: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task, description=escape(f"[{self._place or 'start'}] {text} {done}/{total}")
            )

    def _on_note(self, *, text: str) -> None:
        self._say(text)

    def _on_evaluated(self, *, after: int, matrix: ResultMatrix, **_: Any) -> None:
        scores = (f"{h} {number(matrix.value(after, h))}" for h in matrix.hospitals)
        self._say(f"[after {after}] Dice: {', '.join(scores)}")

    def _on_run_ended(
        self, *, status: str, results: Mapping[str, Any], matrix: ResultMatrix | None = None, **_: Any
    ) -> None:
        self.close(status)
        if matrix is not None and matrix.hospitals:
            self._say("")
            for line in summary_lines(results, matrix):
                self._say(line)
        if status != "finished":
            told = {"stopped": "was stopped", "refused": "was refused"}
            self._say(f"the run {told.get(status, 'failed')}")
        if (self.folder / PAGE).exists():
            self._say(f"report  {words.shown_path(self.folder / PAGE, self._rich.is_terminal)}")

    def _say(self, line: str) -> None:
        encoding = self._rich.encoding or "utf-8"
        shown = line.encode(encoding, "replace").decode(encoding)
        self._rich.print(escape(shown))


def summary_lines(results: Mapping[str, Any], matrix: ResultMatrix) -> list[str]:
    """The end of a run: matrix, measures, memory, time, and what to bear in mind."""
    summary = {**(results.get("summary") or {}), **(results.get("stability") or {})}
    measures = (f"{words.MEASURES[key]} {value}" for key, value in words.measures(summary))
    lines = [*words.table(matrix_rows(results, matrix)), *_stars(results, matrix), "", "   ".join(measures)]
    memory = results.get("memory") or {}
    if memory:
        lines += [
            "",
            *words.table([("memory", "limit", "stored", "reserved"), *map(_memory_row, memory.items())]),
        ]
    seconds = {k: v for k, v in (results.get("seconds") or {}).items() if v}
    if seconds:
        told = words.times({**results, "seconds": seconds})
        lines += ["", "time    " + ", ".join(f"{key} {value}" for key, value in told)]
    return lines + [f"note    {caveat}" for caveat in words.caveats(results.get("run") or {})]


def matrix_rows(results: Mapping[str, Any], matrix: ResultMatrix, metric: str = "dice") -> list[list[str]]:
    """Header and rows of the result matrix; hospitals that are never trained on carry a star."""
    numbers, hospitals = matrix.table(metric)
    unseen, trained = set(results.get("unseen") or ()), list(results.get("hospitals") or ())
    names = {e["after"]: e["hospital"] for e in results.get("experiences") or ()}
    rows = [[metric, *(f"{h}*" if h in unseen else h for h in hospitals)]]
    for after, values in enumerate(numbers):
        if all(value != value for value in values):
            continue
        name = names.get(after) or (trained[after - 1] if 0 < after <= len(trained) else "")
        rows.append([f"after {after} {name}" if after else "untrained", *(number(float(v)) for v in values)])
    return rows


def _stars(results: Mapping[str, Any], matrix: ResultMatrix) -> list[str]:
    there = set(results.get("unseen") or ()) & set(matrix.hospitals)
    return ["* never trained on"] if there else []


def _memory_row(item: tuple[str, Mapping[str, int | None]]) -> tuple[str, str, str, str]:
    kind, row = item
    limit = "none" if row.get("limit") is None else size(row["limit"])
    return kind, limit, stored(row), size(row.get("peak"))
