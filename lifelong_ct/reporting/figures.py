"""Figures of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.agreement import agreement_panels
from lifelong_ct.reporting.curves import hospital_curves, shown_hospitals
from lifelong_ct.reporting.style import FAINT, PALETTE, WIDTH, legend_below, name_above, new_axes
from lifelong_ct.reporting.text import duration, size, stored
from lifelong_ct.reporting.train_log import TrainStep

HEAT = "cividis"
"""Reads the same with and without red-green vision, and in grey."""
POINTS = 2000
"""A line of more points goes into a page as pixels."""


def run_figures(
    results: Mapping[str, Any], matrix: ResultMatrix, steps: Sequence[TrainStep]
) -> dict[str, Figure]:
    """File name without ending → figure; only those that the run has data for."""
    figures: dict[str, Figure] = {}
    if matrix.hospitals:
        figures["matrix"] = matrix_heatmap(results, matrix)
        if len(_scored_rows(matrix)) > 1:
            figures["hospitals"] = hospital_curves(
                experience_names(results), results.get("unseen") or (), matrix
            )
        if (panels := agreement_panels(matrix, results.get("unseen") or ())) is not None:
            figures["agreement"] = panels
    if steps:
        figures["loss"] = loss_curve(steps, experience_names(results))
    if any((row.get("peak") or 0) for row in (results.get("memory") or {}).values()):
        figures["memory"] = memory_bars(results["memory"])
    if any((results.get("seconds") or {}).values()):
        figures["time"] = time_bars(results["seconds"])
    return figures


def matrix_heatmap(
    results: Mapping[str, Any], matrix: ResultMatrix, metric: str = "dice", most: int | None = None
) -> Figure:
    """R as colours with its numbers; framed cells are the hospital that was just trained.

    Args:
        results: of results.json.
        matrix: the scores.
        metric: one in 0 … 1.
        most: hospitals and experiences that are drawn, the ones that lost most and the last; None is all.
    """
    rows = _scored_rows(matrix, metric)[-(most or 0) :]
    table, every = matrix.table(metric)
    hospitals = every if most is None else shown_hospitals(every, table, most)
    table = table[:, [every.index(hospital) for hospital in hospitals]]
    cut = f" ({len(hospitals)} of {len(every)} shown)" if len(hospitals) < len(every) else ""
    names, unseen = experience_names(results), set(results.get("unseen") or ())
    width = max(6.0, 2.4 + 0.95 * len(hospitals))
    with new_axes(width, 1.5 + 0.42 * len(rows)) as (figure, (axes,)):
        image = axes.imshow(table[rows], cmap=HEAT, vmin=0, vmax=1, aspect="auto")
        axes.grid(False)
        for side in axes.spines.values():
            side.set_visible(False)
        labels = [f"{h}\n(unseen)" if h in unseen else h for h in hospitals]
        slanted = max(map(len, hospitals)) > 11
        axes.set_xticks(
            range(len(hospitals)), labels, rotation=30 if slanted else 0, ha="right" if slanted else "center"
        )
        axes.set_yticks(range(len(rows)), [_row_name(i, names) for i in rows])
        axes.tick_params(length=0)
        axes.set_title(f"{_metric(metric)} per hospital{cut}, after each experience", fontsize=10)
        for y, after in enumerate(rows):
            for x, hospital in enumerate(hospitals):
                _cell(axes, x, y, float(table[after, x]), framed=names.get(after) == hospital)
        figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).outline.set_visible(False)
    return figure


def loss_curve(steps: Sequence[TrainStep], names: Mapping[int, str]) -> Figure:
    """Loss of every optimizer step, a running mean over it, and where the hospitals change."""
    loss = np.array([step.loss for step in steps])
    experience = np.array([step.experience for step in steps])
    x = np.arange(1, len(steps) + 1)
    with new_axes(WIDTH, 3.0) as (figure, (axes,)):
        for number in np.unique(experience):
            own = experience == number
            each, mean = ("each step", "running mean") if number == experience[0] else (None, None)
            many = len(steps) > POINTS  # a path of as many points would be the most of the page
            axes.plot(
                x[own], loss[own], color=PALETTE[5], linewidth=0.8, alpha=0.8, label=each, rasterized=many
            )
            axes.plot(
                x[own], running_mean(loss[own]), color=PALETTE[0], linewidth=2, label=mean, rasterized=many
            )
        top = float(np.nanmax(loss)) * 1.18 if loss.size else 1.0
        starts = [int(x[experience == number][0]) for number in np.unique(experience)]
        shown = [names.get(int(number), str(number)) for number in np.unique(experience)]
        few = len(starts) * max(map(len, shown)) <= 36  # characters that fit above the curve
        for number, start, name in zip(np.unique(experience), starts, shown, strict=True):
            axes.axvline(start, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
            if few or len(starts) <= 12:
                axes.text(start, top, f" {name if few else number}", va="top", fontsize=9, color=FAINT)
        axes.set(
            xlabel="optimizer step", ylabel="loss", ylim=(min(0.0, float(loss.min())), top), xlim=(1, None)
        )
        axes.set_title("Training loss")
        legend_below(figure, axes)
    return figure


def memory_bars(memory: Mapping[str, Mapping[str, int | None]]) -> Figure:
    """Peaks against limits: really stored (filled) and reserved beforehand (outline), in percent of the limit."""
    kinds = [kind for kind, row in memory.items() if row.get("limit") or row.get("peak")]
    with new_axes(WIDTH, 1.2 + 0.55 * len(kinds)) as (figure, (axes,)):
        notes = []
        for y, kind in enumerate(kinds):
            limit, peak, used = (memory[kind].get(key) or 0 for key in ("limit", "peak", "used"))
            if limit:
                reserved: dict[str, Any] = {"fill": False, "edgecolor": FAINT, "linestyle": (0, (3, 2))}
                axes.barh(y, 100 * used / limit, height=0.4, color=PALETTE[0], label="stored at peak")
                axes.barh(y, 100 * peak / limit, height=0.4, label="reserved beforehand", **reserved)
                notes.append(f"{kind}: {stored(memory[kind])} of {size(limit)}")
            else:
                notes.append(f"{kind}: {size(used or peak)}, no limit")
        name_above(axes, notes)
        axes.axvline(100, color=PALETTE[1], linewidth=1.8)
        axes.set(xlim=(0, 108), xlabel="percent of the limit")
        axes.set_xticks(range(0, 101, 25))
        axes.set_title("Memory at its peak, beside the limit")
        legend_below(figure, axes)
    return figure


def time_bars(seconds: Mapping[str, float]) -> Figure:
    """Where the time went, in percent."""
    kinds = {kind: value for kind, value in seconds.items() if kind != "total"}
    total = sum(kinds.values())
    shares = [100 * value / total for value in kinds.values()]
    with new_axes(WIDTH, 0.9 + 0.5 * len(kinds)) as (figure, (axes,)):
        axes.barh(range(len(kinds)), shares, height=0.4, color=PALETTE[0])
        parts = zip(kinds.items(), shares, strict=True)
        name_above(axes, [f"{kind}: {duration(value)}, {share:.0f} %" for (kind, value), share in parts])
        axes.set(xlim=(0, 108), xlabel="percent of the time")
        axes.set_xticks(range(0, 101, 25))
        axes.set_title("Time")
    return figure


def experience_names(results: Mapping[str, Any]) -> dict[int, str]:
    """Experience number → what was trained in it."""
    told = {int(e["after"]): str(e["hospital"]) for e in results.get("experiences") or ()}
    return told or dict(enumerate(results.get("hospitals") or (), start=1))


def running_mean(values: npt.NDArray[np.float64], window: int | None = None) -> npt.NDArray[np.float64]:
    """Mean over the last `window` values, fewer at the begin; a tenth of all where None. `[n]` → `[n]`."""
    window = window or max(1, len(values) // 10)
    total = np.concatenate([[0.0], np.cumsum(values)])
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(stop - window, 0)
    return np.asarray((total[stop] - total[start]) / (stop - start))


def heat_colours(value: float) -> tuple[str, str]:
    """Background of a score in 0 … 1 and the ink that stands out more from it, hex: at least 4.58:1, whatever the
    background (WCAG 2.2 asks for 4.5)."""
    parts = colormaps[HEAT](min(max(value, 0.0), 1.0))[:3]
    background = "#" + "".join(f"{round(255 * part):02x}" for part in parts)
    light = luminance(background) + 0.05
    return background, "#ffffff" if 1.05 / light > light / 0.05 else "#000000"


def luminance(colour: str) -> float:
    """Relative luminance of a hex colour, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _cell(axes: Any, x: int, y: int, value: float, framed: bool) -> None:
    if np.isnan(value):
        axes.text(x, y, "–", ha="center", va="center", color=FAINT)
        return
    axes.text(x, y, f"{value:.2f}", ha="center", va="center", color=heat_colours(value)[1])
    if framed:
        axes.add_patch(_frame(x, y))


def _frame(x: int, y: int) -> Any:
    return Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, fill=False, edgecolor=PALETTE[1], linewidth=2.4)


def _scored_rows(matrix: ResultMatrix, metric: str = "dice") -> list[int]:
    table, _ = matrix.table(metric)
    return [i for i, row in enumerate(table) if not np.isnan(row).all()]


def _row_name(after: int, names: Mapping[int, str]) -> str:
    return f"{after}  {names.get(after, '')}".rstrip() if after else "untrained"


def _metric(name: str) -> str:
    return "Dice" if name == "dice" else name
