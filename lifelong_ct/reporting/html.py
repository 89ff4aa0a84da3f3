"""The page of one run: self-contained, no script, nothing from the net."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from matplotlib.figure import Figure

from lifelong_ct.core.files import write_bytes, write_text
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.summary import shared
from lifelong_ct.reporting.figures import experience_names, heat_colours, run_figures
from lifelong_ct.reporting.run_folder import FIGURES, PAGE, Run, read_run
from lifelong_ct.reporting.style import png
from lifelong_ct.reporting.text import (
    MEANINGS,
    MEASURES,
    caveats,
    measures,
    number,
    sentence,
    size,
    stored,
    times,
)

TEMPLATES = Path(__file__).parent / "templates"
ALT = {
    "matrix": "Result matrix as colours",
    "hospitals": "Score of each hospital after each experience",
    "loss": "Training loss over the optimizer steps",
    "memory": "Memory at its peak beside the limit of each kind",
    "final": "Mean Dice at the end per strategy",
    "forgetting": "Backward transfer and forgetting per strategy",
    "learning": "Mean Dice on what was met so far",
    "bytes": "Dice at the end over the bytes of stored exemplars",
}
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
    shown = [picture for picture in pictures if picture["name"] != "matrix"]  # the table says the same
    write_text(run.path / PAGE, render("run.html", **_context(run), figures=shown))
    return run.path / PAGE


def write_figures(figures: Mapping[str, Figure], folder: Path) -> list[dict[str, str]]:
    """Saves PNGs; name, data URI and description of each."""
    pictures = []
    for name, figure in figures.items():
        data = png(figure)
        write_bytes(folder / f"{name}.png", data)
        uri = "data:image/png;base64," + base64.b64encode(data).decode()
        pictures.append({"name": name, "uri": uri, "alt": ALT[name.split("-")[-1]]})
    return pictures


def render(template: str, **context: Any) -> str:
    """A template of this room, everything escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**context)


def heat_table(
    caption: str, header: Sequence[str], rows: Sequence[tuple[str, Sequence[float | None]]], **more: Any
) -> dict[str, Any]:
    """A table whose cells are coloured by scores in 0 … 1; `own` in `more` holds framed (row, column)s."""
    own = more.pop("own", set())
    coloured = more.pop("coloured", True)
    return {
        "caption": caption,
        "header": list(header),
        "rows": [
            {"name": name, "cells": [_cell(value, (y, x) in own, coloured) for x, value in enumerate(values)]}
            for y, (name, values) in enumerate(rows)
        ],
        **more,
    }


def _context(run: Run) -> dict[str, Any]:
    results = run.results
    summary = {**(results.get("summary") or {}), **(results.get("stability") or {})}
    return {
        "run": {"stream": "?", "seed": "?", "config_hash": "?", "name": run.path.name, **run.info},
        "sentence": sentence(results),
        "caveats": caveats(run.info),
        "error": results.get("error"),
        "cards": _cards(summary),
        "matrix": _matrix_table(run) if run.matrix.hospitals else None,
        "organs": _organ_tables(run),
        "lowest": _lowest(run.matrix),
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
    if shared(run.matrix):
        caption += " Until the last row a panel of cases stands for a hospital; measures compare over these."
    return heat_table(caption, header, rows, own=own)


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


def _memory_row(kind: str, row: Mapping[str, int | None]) -> list[str]:
    limit = "none" if row.get("limit") is None else size(row["limit"])
    return [kind, limit, stored(row), size(row.get("peak")), size(row.get("measured"))]


def _after(after: int, names: Mapping[int, str]) -> str:
    return f"{after} {names.get(after, '')}".strip() if after else "untrained"


def _cell(value: float | None, own: bool, coloured: bool) -> dict[str, Any]:
    style = ""
    if value is not None and coloured:
        background, ink = heat_colours(value)
        style = f"background:{background};color:{ink}"
    return {"text": number(value), "own": own, "style": style}
