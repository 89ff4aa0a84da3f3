"""train.csv: one line per optimizer step."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import unwritable, write_text

PENDING = 100
"""Lines that a kill may cost at most."""


class TrainStep(NamedTuple):
    """A line: experience (1-based), step within it, loss, learning rate, seconds since the experience began."""

    experience: int
    step: int
    loss: float
    lr: float
    seconds: float


class TrainLog:
    """Appends; what a killed run left behind is cut before a resumed one goes on.

    Args:
        path: of train.csv.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: list[TrainStep] = []

    def start(self, done: int, within: tuple[int, int] | None = None) -> None:
        """Keeps the lines of the first `done` experiences only, and those of the first steps of one more.

        Args:
            done: experiences.
            within: the one more, and how many of its steps.

        Raises:
            LifelongCTError: the file cannot be written.
        """
        more, steps = within or (0, 0)
        kept = [
            row
            for row in read_train_csv(self.path)
            if row.experience <= done or (row.experience == more and row.step < steps)
        ]
        write_text(self.path, _text(kept, header=True))
        self._pending = []

    def append(self, row: TrainStep) -> None:
        """One line; in the file after `flush`, or with the next hundred."""
        self._pending.append(row)
        if len(self._pending) >= PENDING:
            self.flush()

    def flush(self) -> None:
        """Everything so far reaches the file.

        Raises:
            LifelongCTError: the file cannot be written.
        """
        if not self._pending:
            return
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(_text(self._pending))
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._pending = []


def read_train_csv(path: Path) -> list[TrainStep]:
    """The whole lines of a train.csv; none where there is no file. A last line that a kill cut is dropped."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    try:
        return [
            TrainStep(
                int(row["experience"]), int(row["step"]), *(float(row[k]) for k in TrainStep._fields[2:])
            )
            for row in csv.DictReader(io.StringIO(whole))
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise LifelongCTError(
            f"not a log of training steps: {error!r}",
            str(path),
            "move the file away; training writes a new one",
        ) from error


def _text(rows: Iterable[TrainStep], header: bool = False) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(TrainStep._fields)
    writer.writerows((r.experience, r.step, f"{r.loss:.8g}", f"{r.lr:.8g}", f"{r.seconds:.3f}") for r in rows)
    return text.getvalue()
