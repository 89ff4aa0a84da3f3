"""`cases.csv`: every score of a run, the file that all of its aggregates can be computed from again."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import write_text
from lifelong_ct.core.types import EvaluationRow

KEYS = ("after", "hospital", "case", "organ")
ABOUT = ("patient", "label_kind")
"""Last columns, where they are known: whose case it is, as a pseudonym, and who labelled it."""
STEP = "step"
"""Column of scores that were made within an experience; empty at its end, absent where there are none."""


def write_rows(path: Path, rows: Iterable[EvaluationRow], metrics: Sequence[str]) -> None:
    """One line per (after, step, hospital, case, organ), one column per metric, empty where undefined. Numbers are
    written in full.

    Args:
        path: of the file, replaced in one step.
        rows: in the order of the lines.
        metrics: columns in order.
    """
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row.after, "" if row.step is None else row.step, row.hospital, row.case, row.organ)
        line = lines.setdefault(key, dict(zip((KEYS[0], STEP, *KEYS[1:]), key, strict=True)))
        line[row.metric] = "" if row.value is None else repr(float(row.value))
        line.update(zip(ABOUT, (row.patient, row.label_kind), strict=True))
    about = ABOUT if any(line[key] for line in lines.values() for key in ABOUT) else ()
    within = any(line[STEP] != "" for line in lines.values())
    columns = [KEYS[0], *([STEP] if within else []), *KEYS[1:], *metrics, *about]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(lines.values())
    write_text(path, text.getvalue())


def read_rows(path: Path) -> list[EvaluationRow]:
    """What `write_rows` wrote; an empty field is an undefined value.

    Raises:
        LifelongCTError: missing, or not such a file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [row for line in csv.DictReader(file) for row in _rows_of(line)]
    except FileNotFoundError as error:
        raise LifelongCTError("the file does not exist", str(path), "check the path") from error
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise LifelongCTError(
            f"not a table of cases: {error!r}", str(path), "give the cases.csv of a run folder"
        ) from error


def _rows_of(line: dict[str, str]) -> list[EvaluationRow]:
    after, hospital, case, organ = (line[key] for key in KEYS)
    step = int(line[STEP]) if line.get(STEP) else None
    patient, label_kind = (line.get(key) or "" for key in ABOUT)
    values = [(metric, text) for metric, text in line.items() if metric not in (*KEYS, STEP, *ABOUT)]
    return [
        EvaluationRow(
            int(after),
            hospital,
            case,
            organ,
            metric,
            float(text) if text else None,
            patient,
            label_kind,
            step,
        )
        for metric, text in values
    ]
