"""Figures of a comparison. A point is a seed, a bar or a line its mean, a whisker one standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lifelong_ct.evaluation.transfer import mean_defined
from lifelong_ct.reporting.comparison import Row, Section, Spread
from lifelong_ct.reporting.run_folder import Run
from lifelong_ct.reporting.style import FAINT, PALETTE, line_style, new_axes
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
    if any(row.spreads["exemplar_bytes"].mean for row in rows):
        figures["bytes"] = score_against_bytes(rows)
    return figures


def final_scores(rows: Sequence[Row]) -> Figure:
    """ACC per method."""
    with new_axes(7.5, 1.2 + 0.45 * len(rows)) as (figure, (axes,)):
        for y, row in enumerate(rows):
            cell = row.spreads["acc"]
            axes.barh(y, cell.mean or 0, height=0.6, color=FAINT if row.at_once else PALETTE[0], alpha=0.45)
            _spread(axes, cell, y)
            axes.text(1.03, y, number(cell.mean), va="center", fontsize=9)
        axes.set_yticks(range(len(rows)), [_name(row) for row in rows])
        axes.set(xlim=(0, 1.14), ylim=(len(rows) - 0.45, -0.55), xlabel="Dice")
        axes.set_xticks(np.arange(0, 1.01, 0.2))
        axes.grid(axis="y", visible=False)
        axes.set_title("Mean Dice on the trained hospitals, at the end")
    return figure


def forgetting_bars(rows: Sequence[Row]) -> Figure:
    """BWT and forgetting beside each other."""
    panels = (("bwt", "Backward transfer (below 0: forgot)"), ("forgetting", "Forgetting (above 0: forgot)"))
    largest = [abs(v) for row in rows for name, _ in panels for v in row.spreads[name].values]
    reach = max([0.05, *largest]) * 1.15
    with new_axes(7.5, 1.2 + 0.45 * len(rows), columns=2) as (figure, both):
        for axes, (name, title) in zip(both, panels, strict=True):
            for y, row in enumerate(rows):
                cell = row.spreads[name]
                if cell.mean is not None:
                    axes.barh(
                        y, cell.mean, height=0.6, color=PALETTE[1 if name == "forgetting" else 0], alpha=0.45
                    )
                    _spread(axes, cell, y)
            axes.axvline(0, color=FAINT, linewidth=1)
            axes.set(xlim=(-reach, reach), ylim=(len(rows) - 0.45, -0.55))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.grid(axis="y", visible=False)
            axes.set_title(title, fontsize=10)
        figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr,call-arg]
        both[0].set_yticks(range(len(rows)), [_name(row) for row in rows])
        both[1].set_yticks(range(len(rows)), [""] * len(rows))
    return figure


def learning_curves(rows: Sequence[Row]) -> Figure:
    """After each experience, the mean score on what was met so far; the band is one standard deviation."""
    with new_axes(7.5, 3.4) as (figure, (axes,)):
        for index, row in enumerate(rows):
            style = line_style(index)
            if row.at_once:
                _upper_bound(axes, row)
                continue
            curves = np.array([met_so_far(run) for run in row.runs], dtype=np.float64)
            x, mean_line = np.arange(1, curves.shape[1] + 1), curves.mean(axis=0)
            axes.plot(x, mean_line, linewidth=2, markersize=5, label=_name(row), **style)
            if len(curves) > 1:
                sd = curves.std(axis=0, ddof=1)
                axes.fill_between(
                    x, mean_line - sd, mean_line + sd, color=style["color"], alpha=0.15, linewidth=0
                )
        axes.set(ylim=(0, 1.02), xlabel="after experience", ylabel="Dice")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("Mean Dice on what was met so far")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def score_against_bytes(rows: Sequence[Row]) -> Figure:
    """ACC over what the exemplars really take."""
    with new_axes(7.5, 3.4) as (figure, (axes,)):
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
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
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


def _spread(axes: Axes, cell: Spread, y: int) -> None:
    if cell.mean is not None and cell.sd is not None:
        axes.errorbar(cell.mean, y, xerr=cell.sd, color="black", capsize=4, linewidth=1.4)
    offsets = np.linspace(-0.12, 0.12, len(cell.values)) if len(cell.values) > 1 else [0.0]
    axes.plot(cell.values, y + np.asarray(offsets), "o", color="black", markersize=4, markerfacecolor="white")


def _name(row: Row) -> str:
    """Long labels break before their settings."""
    label = row.label.replace(" (", "\n(", 1) if len(row.label) > 18 else row.label
    return label if not row.at_once else f"{label}\n(all data at once)"
