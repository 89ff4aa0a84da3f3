"""The page of one run: self-contained, no script, nothing from the net."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lifelong_ct.core.files import write_text
from lifelong_ct.evaluation.agreement import volume_agreement
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.figures import experience_names, run_figures
from lifelong_ct.reporting.overlays import Overlay, read_overlays
from lifelong_ct.reporting.page import data_uri, heat_table, render, write_figures
from lifelong_ct.reporting.run_folder import FIGURES, PAGE, Run, read_run
from lifelong_ct.reporting.text import (
    MEANINGS,
    MEASURES,
    UNDEFINED,
    caveats,
    few_tests,
    measures,
    number,
    sentence,
    size,
    stored,
    times,
)

LOWEST = 8


class HtmlReport:
    """Reporter that writes figures and page when the run ends, from the files of the run folder.

    Args:
        path: of the run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def event(self, name: str, **data: Any) -> None:
        """Waits for the end."""
        if name == "run_ended":
            write_run_page(read_run(self.path))

    def close(self, status: str) -> None:
        """Holds nothing."""


def write_run_page(run: Run) -> Path:
    """Writes figures/*.png and report.html into the run folder; the path of the page."""
    pictures = write_figures(run_figures(run.results, run.matrix, run.steps), run.path / FIGURES)
    write_text(run.path / PAGE, render("run.html", **_context(run), figures=pictures))
    return run.path / PAGE


def _context(run: Run) -> dict[str, Any]:
    results = run.results
    summary = {**(results.get("summary") or {}), **(results.get("stability") or {})}
    return {
        "run": {
            "stream": "?",
            "seed": "?",
            "config_hash": "?",
            "name": run.path.name,
            "synthetic": False,
            **run.info,
        },
        "sentence": sentence(results),
        "caveats": caveats(run.info) + few_tests(run.matrix),
        "error": results.get("error"),
        "cards": _cards(summary),
        "matrix": _matrix_table(run) if run.matrix.hospitals else None,
        "organs": _organ_tables(run),
        "lowest": _lowest(run.matrix),
        "overlays": [_overlay(overlay) for overlay in read_overlays(run.path)],
        "agreement": _agreement(run),
        "environment": list(run.environment.items()),
        "memory": [_memory_row(kind, row) for kind, row in (results.get("memory") or {}).items()],
        "experiences": [
            [e["after"], e["hospital"], e.get("steps", ""), size(e.get("anonymous_peak") or None)]
            for e in results.get("experiences") or ()
        ],
        "skipped": [
            [row["hospital"], row["case"] or "–", row["code"], row["found"]]
            for row in results.get("skipped") or ()
        ],
        "seconds": [list(row) for row in times(results)],
        "command": run.info.get("command") or "lifelong-ct",
        "config": yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True) if run.config else "",
    }


def _cards(summary: Mapping[str, float | None]) -> list[dict[str, str]]:
    if all(value is None for value in summary.values()):
        return []
    return [
        {"label": MEASURES[key], "value": value, "meaning": MEANINGS[key]} for key, value in measures(summary)
    ]


def _matrix_table(run: Run) -> dict[str, Any]:
    table, hospitals = run.matrix.table()
    names = experience_names(run.results)
    rows: list[tuple[str, list[float | None]]] = []
    own = set()
    for after, values in enumerate(table):
        if all(value != value for value in values):
            continue
        own |= {(len(rows), x) for x, hospital in enumerate(hospitals) if names.get(after) == hospital}
        rows.append((_after(after, names), [None if v != v else float(v) for v in values]))
    header = ["", *(f"{h} (unseen)" if h in run.unseen else h for h in hospitals)]
    caption = "Dice on each hospital (column) after each experience (row). Framed: the hospital just trained."
    if _has_panel(run.matrix):
        caption += " Until the last row a panel of cases stands for a hospital; measures compare over these."
    return heat_table(caption, header, rows, own=own)


def _has_panel(matrix: ResultMatrix) -> bool:
    """Whether rows of a hospital are over other cases than its last."""
    scored = matrix.scored_cases()
    return len({(hospital, cases) for (_, hospital), cases in scored.items()}) > len({h for _, h in scored})


def _organ_tables(run: Run) -> list[dict[str, Any]]:
    matrix, last = run.matrix, run.matrix.last
    tables = []
    for metric in sorted(matrix.metrics, key=lambda name: name != "dice"):
        rows = [
            (organ, [matrix.value(last, hospital, organ, metric) for hospital in matrix.hospitals])
            for organ in matrix.organs
        ]
        rows.append(("mean", [matrix.value(last, hospital, None, metric) for hospital in matrix.hospitals]))
        label = "Dice" if metric == "dice" else metric
        header, more = ["", *matrix.hospitals], {"metric": label, "coloured": metric == "dice"}
        tables.append(heat_table(f"{label}, mean over cases; a dash: not annotated", header, rows, **more))
    return tables


def _lowest(matrix: ResultMatrix) -> list[list[str]]:
    scored = [
        r for r in matrix.rows() if r.after == matrix.last and r.metric == "dice" and r.value is not None
    ]
    scored.sort(key=lambda row: (row.value, row.hospital, row.case, row.organ))
    return [[row.hospital, row.case, row.organ, number(row.value)] for row in scored[:LOWEST]]


def _overlay(overlay: Overlay) -> dict[str, Any]:
    who = f"case {overlay.case} of {overlay.hospital}"
    return {
        "who": who,
        "told": f"mean Dice {number(overlay.dice)}; cut where {overlay.organ} "
        f"({number(overlay.organ_dice)}) is most wrong",
        "tints": list(overlay.tints.items()),
        "planes": [
            {"name": plane, "uri": data_uri(data), "alt": f"{plane} plane of {who}: prediction and reference"}
            for plane, data in reversed(overlay.planes.items())
        ],
    }


def _agreement(run: Run) -> list[list[str]]:
    return [
        [
            organ,
            f"{each.cases} (+ {each.absent} absent)" if each.absent else str(each.cases),
            _between(each.bias, each.bias_interval, 1, signed=True),
            UNDEFINED if each.limits is None else " … ".join(number(v, 1, signed=True) for v in each.limits),
            _between(each.concordance, each.concordance_interval, 2),
        ]
        for organ, each in volume_agreement(run.matrix).items()
    ]


def _between(
    value: float | None, interval: tuple[float, float] | None, digits: int, signed: bool = False
) -> str:
    if interval is None:
        return number(value, digits, signed)
    low, high = (number(bound, digits, signed) for bound in interval)
    return f"{number(value, digits, signed)} [{low}, {high}]"


def _memory_row(kind: str, row: Mapping[str, int | None]) -> list[str]:
    limit = "none" if row.get("limit") is None else size(row["limit"])
    return [kind, limit, stored(row), size(row.get("peak")), size(row.get("measured"))]


def _after(after: int, names: Mapping[int, str]) -> str:
    return f"{after} {names.get(after, '')}".strip() if after else "untrained"
