"""The comparison of runs: which strategy keeps what, at which price."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import write_text
from lifelong_ct.reporting import significance_table
from lifelong_ct.reporting.axes import axes_table
from lifelong_ct.reporting.checking import tables
from lifelong_ct.reporting.collecting import REPORT, Collection, collect, left_out
from lifelong_ct.reporting.comparison import COLUMNS, Row, Section, Spread, compare
from lifelong_ct.reporting.html import write_run_page
from lifelong_ct.reporting.page import heat_table, render, write_figures
from lifelong_ct.reporting.run_folder import FIGURES, PAGE, RESULTS, Run, read_run
from lifelong_ct.reporting.sweep_figures import sweep_figures
from lifelong_ct.reporting.sweep_tables import LEFT_OUT, to_latex, to_markdown
from lifelong_ct.reporting.text import (
    MEANINGS,
    MEASURES,
    arrived,
    caveats,
    duration,
    few_tests,
    measure,
    number,
    plural,
    size,
)

HEADS = {**MEASURES, "exemplar_bytes": "exemplars", "held_bytes": "held by the method", "seconds": "time"}
LESS_IS_BETTER = ("forgetting",)
BYTES = ("exemplar_bytes", "held_bytes")
COUNTED = (*BYTES, "seconds")


def write_report(runs: Path, out: Path | None = None) -> Path:
    """Writes the comparison as page, CSV, Markdown and LaTeX, and its figures; pages of runs that are missing or old, too.

    Args:
        runs: folder of run folders, or one run folder: then only its own page is written again.
        out: where to write; `<runs>/report` where None.

    Returns:
        The page.

    Raises:
        LifelongCTError: no such folder, or it cannot be written.
    """
    if (runs / RESULTS).is_file():
        return write_run_page(read_run(runs))
    found = collect(runs)
    _refresh(found)
    out = out or runs / REPORT
    sections = compare(found.finished)
    for name, content in tables(sections, found.finished).items():
        write_text(out / name, content)
    page = out / "comparison.html"
    shown = [
        {**_section(number, section, out), "axes": axes_table(section, found.finished)}
        for number, section in enumerate(sections, start=1)
    ]
    write_text(out / "comparison.md", to_markdown(shown, found.left_out))
    write_text(out / "comparison.tex", to_latex(shown))
    context = {
        "sections": shown,
        "left_out": found.left_out,
        "left_out_header": LEFT_OUT,
        "meanings": [(MEASURES[name], meaning) for name, meaning in MEANINGS.items() if name in COLUMNS],
        "count": plural(len(found.finished), "run"),
    }
    write_text(page, render("sweep.html", **context))
    return page


def sentence(section: Section) -> str:
    """What was compared and what came out."""
    seeds = max(len(row.runs) for row in section.rows)
    text = (
        f"{plural(len(section.rows), 'strategy')} learnt "
        f"{arrived(section.hospitals, section.learnt)} of the stream {section.stream}, "
        f"{'up to ' if len({len(r.runs) for r in section.rows}) > 1 else ''}{plural(seeds, 'seed')} each."
    )
    rows = [row for row in section.rows if not row.at_once and row.spreads["acc"].mean is not None]
    if not rows:
        return text
    best = max(rows, key=lambda row: row.spreads["acc"].mean or 0.0)
    text += f" At the end {best.label} has the highest mean Dice, {number(best.spreads['acc'].mean)}"
    naive = next((row for row in rows if row.strategy == "naive" and row is not best), None)
    text += f"; naive training has {number(naive.spreads['acc'].mean)}." if naive else "."
    forgetful = [row for row in rows if (row.spreads["bwt"].mean or 0.0) < -0.005]
    if forgetful:
        worst = min(forgetful, key=lambda row: row.spreads["bwt"].mean or 0.0)
        text += f" {worst.label} forgets most: backward transfer {number(worst.spreads['bwt'].mean, signed=True)}."
    return text


def _section(index: int, section: Section, out: Path) -> dict[str, Any]:
    runs = [run for row in section.rows for run in row.runs]
    figures = {f"{index}-{name}": figure for name, figure in sweep_figures(section).items()}
    return {
        "stream": section.stream,
        "sentence": sentence(section),
        "caveats": _caveats(section, runs),
        "header": ["strategy", "seeds", *(HEADS[name] for name in COLUMNS)],
        "rows": [
            {
                "label": _label(row),
                "seeds": len(row.runs),
                "cells": [_cell(n, row, section.rows) | _mark(n, row, section) for n in COLUMNS],
            }
            for row in section.rows
        ],
        "figures": list(write_figures(figures, out / FIGURES).values()),
        "hospitals": _hospitals(section),
        "runs": [_run(run, out) for run in runs],
        "significance": significance_table.shown(section.verdicts),
    }


def _caveats(section: Section, runs: Sequence[Run]) -> list[str]:
    found = [text for run in runs for text in caveats(run.info) + few_tests(run.matrix)]
    single = [_label(row) for row in section.rows if len(row.runs) == 1]
    if single and len(single) < len(section.rows):
        found.append(
            f"One seed only: {', '.join(single)}. What is seed and what is method cannot be told apart there."
        )
    elif single:
        found.append("One seed each: what is seed and what is method cannot be told apart.")
    return list(dict.fromkeys(found))


def _hospitals(section: Section) -> dict[str, Any] | None:
    scored = {name for row in section.rows for run in row.runs for name in run.matrix.hospitals}
    names = [name for name in (*section.hospitals, *section.unseen) if name in scored]
    if not names:
        return None
    rows = [(_label(row), [row.hospital(name).mean for name in names]) for row in section.rows]
    header = ["", *(f"{name} (unseen)" if name in section.unseen else name for name in names)]
    return heat_table("Dice, mean over seeds; hospitals in the order of training", header, rows)


def _cell(name: str, row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    cell = row.spreads[name]
    rivals = [r.spreads[name].mean for r in rows if not r.at_once and r.spreads[name].mean is not None]
    best = (min if name in LESS_IS_BETTER else max)((v for v in rivals if v is not None), default=None)
    is_best = len(rivals) > 1 and not row.at_once and cell.mean == best and name not in COUNTED
    return {"mean": _shown(name, cell.mean), "sd": _sd(name, cell), "best": is_best}


def _mark(name: str, row: Row, section: Section) -> dict[str, str]:
    return {"mark": significance_table.mark(section.verdicts.rows[row.label]) if name == "acc" else ""}


def _shown(name: str, value: float | None) -> str:
    if name in BYTES:
        return size(value)
    return duration(value) if name == "seconds" else measure(name, value)


def _sd(name: str, cell: Spread) -> str:
    if cell.sd is None or (name in COUNTED and cell.sd == 0):
        return ""
    return _shown(name, cell.sd) if name in COUNTED else number(cell.sd)


def _label(row: Row) -> str:
    return f"{row.label}, all data at once" if row.at_once else row.label


def _run(run: Run, out: Path) -> dict[str, Any]:
    page = run.path / PAGE
    return {
        "name": run.path.name,
        "seed": run.info.get("seed", ""),
        "acc": number((run.results.get("summary") or {}).get("acc")),
        "command": run.info.get("command", ""),
        "page": Path(os.path.relpath(page, out)).as_posix() if page.exists() else "",
    }


def _refresh(found: Collection) -> None:
    """Writes missing and old pages; a run that is too damaged for one is listed, not fatal."""
    for run in list(found.finished):
        try:
            if _is_old(run):
                write_run_page(run)
        except Exception as error:  # files of a run may be damaged in any way
            what = error.what if isinstance(error, LifelongCTError) else repr(error)
            found.finished.remove(run)
            found.left_out.append(left_out(run, f"its page cannot be made: {what}"))
    found.left_out.sort()


def _is_old(run: Run) -> bool:
    page = run.path / PAGE
    return not page.exists() or page.stat().st_mtime < (run.path / RESULTS).stat().st_mtime
