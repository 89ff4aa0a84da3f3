"""Whether the numbers of a run, or of a sweep, follow from `cases.csv`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import checksum
from lifelong_ct.evaluation.costs import costs
from lifelong_ct.evaluation.stability import stability
from lifelong_ct.reporting.axes import axes_csv
from lifelong_ct.reporting.collecting import REPORT, collect
from lifelong_ct.reporting.comparison import Section, compare, strata_csv, to_csv
from lifelong_ct.reporting.references import TOLD
from lifelong_ct.reporting.run_folder import CASES, CONFIG, RESULTS, TRAIN, Run, read_run
from lifelong_ct.reporting.text import plural, shown_path

CLOSE = 1e-9
"""Relative difference of two numbers that are the same, whatever the order of a sum."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be.

    Attributes:
        place: run folder, file and key.
        found: what stands there.
        expected: what cases.csv gives.
    """

    place: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.place}: found {self.found}, expected {self.expected}"


def check(folder: Path) -> tuple[list[Difference], list[str]]:
    """Recomputes every aggregate of a run folder, or of all runs of a folder and their comparison.

    Args:
        folder: of a run, or of runs.

    Returns:
        What differs, and what was checked or could not be, in words.

    Raises:
        LifelongCTError: neither.
    """
    if (folder / RESULTS).is_file():
        return check_run(folder)
    runs = sorted(path for path in folder.iterdir() if (path / RESULTS).is_file()) if folder.is_dir() else []
    if not runs:
        raise LifelongCTError("there is no run", str(folder), "give a run folder, or a folder of run folders")
    differences, notes = [], []
    for path in runs:
        found, told = check_run(path, f"{shown_path(Path(path.name), False)}/")
        differences += found
        notes += told
    finished = collect(folder).finished
    for name, expected in tables(compare(finished), finished).items():
        if (folder / REPORT / name).is_file():
            differences += check_table(folder / REPORT / name, expected)
            notes.append(f"{REPORT}/{name} computed again")
    return differences, notes


def check_run(path: Path, name: str = "") -> tuple[list[Difference], list[str]]:
    """Of one run folder, called `name`: the checksum of cases.csv, and every number of results.json that follows from
    it."""
    try:
        run = read_run(path)
    except LifelongCTError as error:
        where = next((file for file in (RESULTS, CASES, TRAIN, CONFIG) if file in error.where), "")
        return [Difference(f"{name}{where}", error.what, "a readable file")], []
    differences, notes = check_cases(run, name)
    expected = aggregates(run)
    for key, value in expected.items():
        differences += compared(f"{name}{RESULTS}: {key}", run.results.get(key), value)
    numbers = sum(map(_count, expected.values()))
    return differences, [*notes, f"{name}{RESULTS}: {plural(numbers, 'number')} computed again"]


def tables(sections: Sequence[Section], runs: Sequence[Run]) -> dict[str, str]:
    """File name → content of the tables of a sweep's report, of runs and their comparison."""
    return {
        "comparison.csv": to_csv(sections),
        "axes.csv": axes_csv(sections, runs),
        "strata.csv": strata_csv(sections),
    }


def aggregates(run: Run) -> dict[str, Any]:
    """What results.json should hold, of what follows from cases.csv and its own parts; keys that this run's version did
    not write are left out."""
    matrix, tasks = run.matrix, list(run.tasks.values())
    told = [name for name in matrix.metrics if name == TOLD]
    found: dict[str, Any] = {
        "scores": matrix.to_scores(),
        "summary": dict(matrix.summary(tasks)),
        "summary_per_organ": {organ: dict(matrix.summary(tasks, organ=organ)) for organ in matrix.organs},
        "stability": dict(stability(matrix, tasks)) if matrix.within else None,
        "summary_told": dict(matrix.summary(tasks, told[0])) if told else None,
        "costs": dict(costs(run.results.get("experiences") or ())),
    }
    found = {key: _as_written(value, run.results[key]) for key, value in found.items() if key in run.results}
    for key in ("seconds", "cpu_seconds"):
        parts = run.results.get(key)
        if parts:
            total = sum(value for kind, value in parts.items() if kind != "total")
            found[key] = {**parts, "total": total}
    if run.results.get("router"):
        found["router"] = {**run.results["router"], "accuracy": _routed(run)}
    if run.results.get("evaluation_share") is not None:
        found["evaluation_share"] = run.results["seconds"]["evaluation"] / found["seconds"]["total"]
    return found


def compared(place: str, found: Any, expected: Any) -> Iterator[Difference]:
    """Every difference of two JSON values, by its key."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys((*expected, *found)):
            yield from compared(f"{place}.{key}", found.get(key), expected.get(key))
    elif _rows(expected) and _rows(found):
        mine, theirs = _keyed(found), _keyed(expected)
        for key in dict.fromkeys((*theirs, *mine)):
            yield from compared(f"{place}[{key}]", mine.get(key), theirs.get(key))
    elif not _same(found, expected):
        yield Difference(place, _shown(found), _shown(expected))


def check_table(table: Path, text: str) -> list[Difference]:
    """Of a sweep: each cell of a table, beside the one that the finished runs give."""
    place, expected = f"{REPORT}/{table.name}", _table(text)
    try:
        found = _table(table.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        return [Difference(place, f"not readable ({type(error).__name__})", "a table; run `report` again")]
    differences = []
    for key in dict.fromkeys((*expected, *found)):
        if key not in found or key not in expected:
            here, there = ("a row", "none") if key in found else ("none", "a row; run `report` again")
            differences.append(Difference(f"{place}: {key}", here, there))
            continue
        differences += compared(f"{place}: {key}", found[key], expected[key])
    return differences


def check_cases(run: Run, name: str = "") -> tuple[list[Difference], list[str]]:
    """Whether cases.csv is the one that results.json was written with, as `check_run` tells it."""
    recorded = (run.results.get("xxh3") or {}).get(CASES)
    if recorded is None:
        return [], [f"{name}{CASES}: no checksum was recorded"] if run.matrix.hospitals else []
    there = (run.path / CASES).is_file()
    now = checksum(run.path / CASES) if there else "no file"
    if now == recorded:
        return [], []
    hint = "" if run.status != "running" else " (it is running, or was killed: the same command mends it)"
    return [Difference(f"{name}{CASES}: xxh3{hint}", now, recorded)], []


def _routed(run: Run) -> float | None:
    """The router's accuracy from its own counts: they are no scores, so they stand in results.json alone."""
    last = [row for row in run.results["router"]["cases"] if row["after"] == run.matrix.last]
    cases = sum(row["cases"] for row in last)
    return sum(row["right"] for row in last) / cases if cases else None


def _table(text: str) -> dict[str, dict[str, Any]]:
    """Row → column → text, or number where it is one."""
    rows = csv.DictReader(io.StringIO(text))
    keyed = [
        (" ".join([row["stream"], row["label"], *filter(None, [row.get("label_kind")])]), row) for row in rows
    ]
    return {key: {k: _number(v) for k, v in row.items()} for key, row in keyed}


def _number(text: str | None) -> Any:
    try:
        return float(text or "")
    except ValueError:
        return text


def _as_written(expected: Any, found: Any) -> Any:
    """Without measures that the version which wrote it did not know."""
    if isinstance(expected, dict) and isinstance(found, dict):
        known = {k: _as_written(v, found[k]) for k, v in expected.items() if k in found}
        return known if known or not expected else expected
    return expected


def _rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, Mapping) and "after" in row for row in value)


def _keyed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Scores by what they are of."""
    keys = ("after", "hospital", "organ", "metric")
    return {" ".join(f"{key}={row[key]}" for key in keys if key in row): row for row in rows}


def _same(found: Any, expected: Any) -> bool:
    numbers = [v for v in (found, expected) if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) == 2:
        return math.isclose(found, expected, rel_tol=CLOSE, abs_tol=1e-12)
    return bool(found == expected)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def _count(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_count, value.values()))
    if isinstance(value, list):
        return sum(map(_count, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)
