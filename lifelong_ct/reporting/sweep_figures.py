"""Figures of a comparison. A point is a seed, a bar or a line its mean, a whisker one standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lifelong_ct.evaluation.transfer import mean_defined
from lifelong_ct.reporting.comparison import Row, Section, Spread
from lifelong_ct.reporting.curves import dress, shown_hospitals
from lifelong_ct.reporting.run_folder import Run
from lifelong_ct.reporting.style import (
    FAINT,
    PALETTE,
    WIDTH,
    legend_below,
    line_style,
    name_above,
    new_axes,
    panels,
)
from lifelong_ct.reporting.text import number

MIB = 1 << 20


def sweep_figures(section: Section) -> dict[str, Figure]:
    """File name without ending → figure; only those that the rows have data for."""
    rows = [row for row in section.rows if row.spreads["acc"].mean is not None]
    if not rows:
        return {}
    figures = {"final": final_scores(rows)}
    forgetful = [row for row in rows if row.spreads["bwt"].mean is not None]
    if forgetful:
        figures["forgetting"] = forgetting_bars(forgetful)
        figures["learning"] = learning_curves(rows)
        figures["each"] = hospital_panels(rows, section.unseen)
    if any(row.spreads["exemplar_bytes"].mean for row in rows):
        figures["bytes"] = score_against_bytes(rows)
    return figures


def final_scores(rows: Sequence[Row]) -> Figure:
    """ACC per method."""
    with new_axes(WIDTH, 0.9 + 0.52 * len(rows)) as (figure, (axes,)):
        for y, row in enumerate(rows):
            cell = row.spreads["acc"]
            axes.barh(y, cell.mean or 0, height=0.4, color=FAINT if row.at_once else PALETTE[0], alpha=0.45)
            _spread(axes, cell, y)
        name_above(axes, [f"{_name(row)}: {number(row.spreads['acc'].mean)}" for row in rows])
        axes.set(xlim=(0, 1.02), xlabel="Dice")
        axes.set_xticks(np.arange(0, 1.01, 0.2))
        axes.set_title("Mean Dice on the trained hospitals, at the end")
    return figure


def forgetting_bars(rows: Sequence[Row]) -> Figure:
    """BWT and forgetting, one above the other."""
    kinds = (("bwt", "backward transfer (below 0: forgot)"), ("forgetting", "forgetting (above 0: forgot)"))
    largest = [abs(v) for row in rows for name, _ in kinds for v in row.spreads[name].values]
    reach = max([0.05, *largest]) * 1.15
    with new_axes(WIDTH, 1.2 + 0.6 * len(rows)) as (figure, (axes,)):
        for y, row in enumerate(rows):
            for (name, label), shift, colour in zip(kinds, (0.0, 0.26), PALETTE, strict=False):
                cell = row.spreads[name]
                if cell.mean is not None:
                    axes.barh(y + shift, cell.mean, height=0.24, color=colour, alpha=0.45, label=label)
                    _spread(axes, cell, y + shift, scatter=0.06)
        axes.axvline(0, color=FAINT, linewidth=1)
        name_above(axes, [_name(row) for row in rows])
        axes.set(xlim=(-reach, reach), ylim=(len(rows) - 0.4, -0.75), xlabel="Dice")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_title("What is forgotten")
        legend_below(figure, axes, columns=1)
    return figure


def learning_curves(rows: Sequence[Row]) -> Figure:
    """After each experience, the mean score on what was met so far; the band is one standard deviation."""
    with new_axes(WIDTH, 2.9 + 0.2 * len(rows)) as (figure, (axes,)):
        for index, row in enumerate(rows):
            if row.at_once:
                _upper_bound(axes, row)
                continue
            curves = np.array([met_so_far(run) for run in row.runs], dtype=np.float64)
            _line(axes, np.arange(1, curves.shape[1] + 1), curves, index, _name(row))
        axes.set(ylim=(0, 1.02), xlabel="after experience", ylabel="Dice")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("Mean Dice on what was met so far")
        legend_below(figure, axes, columns=1)
    return figure


def hospital_panels(rows: Sequence[Row], unseen: Sequence[str]) -> Figure:
    """A panel per hospital, a line per method: mean over seeds, the band one standard deviation."""
    tables = [[run.matrix.table() for run in row.runs] for row in rows]
    table, hospitals = tables[0][0]
    shown = shown_hospitals(hospitals, table)
    last = max(len(values) - 1 for row in tables for values, _ in row)
    with panels(len(shown), 1.35) as (figure, every):
        for place, (axes, hospital) in enumerate(zip(every, shown, strict=True)):
            for index, (row, found) in enumerate(zip(rows, tables, strict=True)):
                curves = np.array(
                    [values[:, names.index(hospital)] for values, names in found if hospital in names]
                )
                if not len(curves):
                    continue
                if row.at_once:
                    axes.axhline(
                        np.nanmean(curves[:, -1]), color=FAINT, linestyle=(0, (4, 3)), label=_name(row)
                    )
                else:
                    _line(axes, np.arange(curves.shape[1]), curves, index, _name(row), marker=3)
            more = " (unseen)" if hospital in unseen else ""
            dress(axes, hospital, more, last, place >= len(shown) - 2)
        legend_below(figure, every[0], columns=1)
    return figure


def score_against_bytes(rows: Sequence[Row]) -> Figure:
    """ACC over what the exemplars really take."""
    with new_axes(WIDTH, 2.9 + 0.2 * len(rows)) as (figure, (axes,)):
        for index, row in enumerate(rows):
            if row.at_once:
                _upper_bound(axes, row)
                continue
            style = {**line_style(index), "linestyle": ""}
            sizes = [value / MIB for value in row.spreads["exemplar_bytes"].values]
            scores = row.spreads["acc"].values
            if len(sizes) == len(scores):
                axes.plot(sizes, scores, markersize=8, alpha=0.8, label=_name(row), **style)
        axes.margins(x=0.04)
        axes.set(ylim=(0, 1.02), xlabel="exemplars stored (MiB)", ylabel="Dice at the end")
        axes.set_title("What stored exemplars buy")
        legend_below(figure, axes, columns=1)
    return figure


def met_so_far(run: Run) -> list[float]:
    """For i = 1 … T, the mean over the first i experiences of their own scores in row i; NaN where there is none."""
    tasks = list(run.tasks.values())
    means = (
        mean_defined(_or_nan(run.matrix.task_value(after, task)) for task in tasks[:after])
        for after in range(1, len(tasks) + 1)
    )
    return [_or_nan(mean) for mean in means]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _upper_bound(axes: Axes, row: Row) -> None:
    mean = row.spreads["acc"].mean or 0.0
    axes.axhline(mean, color=FAINT, linestyle=(0, (4, 3)), linewidth=1.5, label=_name(row))


def _line(axes: Axes, x: np.ndarray, curves: np.ndarray, index: int, name: str, marker: float = 5) -> None:
    """Mean of curves `[seeds, x]`, NaN where nothing was scored."""
    style = line_style(index)
    known = ~np.isnan(curves).all(axis=0)
    x, curves = x[known], curves[:, known]
    mean = np.nanmean(curves, axis=0)
    axes.plot(x, mean, linewidth=1.8, markersize=marker, label=name, **style)
    if len(curves) > 1:
        sd = np.nanstd(curves, axis=0, ddof=1)
        axes.fill_between(x, mean - sd, mean + sd, color=style["color"], alpha=0.15, linewidth=0)


def _spread(axes: Axes, cell: Spread, y: float, scatter: float = 0.12) -> None:
    if cell.mean is not None and cell.sd is not None:
        axes.errorbar(cell.mean, y, xerr=cell.sd, color="black", capsize=3, linewidth=1.2)
    offsets = np.linspace(-scatter, scatter, len(cell.values)) if len(cell.values) > 1 else [0.0]
    axes.plot(
        cell.values, y + np.asarray(offsets), "o", color="black", markersize=3.5, markerfacecolor="white"
    )


def _name(row: Row) -> str:
    return f"{row.label}, all data at once" if row.at_once else row.label
