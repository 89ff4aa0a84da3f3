"""What each hospital gains and loses over the experiences, with intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.resampling import patient_of
from lifelong_ct.evaluation.statistics import bootstrap_interval
from lifelong_ct.reporting.style import FAINT, PALETTE, panels

MOST = 24
"""Hospitals in one figure; the others stand in the table."""
RESAMPLES = 500
"""Of an interval that is drawn, not written."""


def hospital_curves(
    names: Mapping[int, str], unseen: Collection[str], matrix: ResultMatrix, metric: str = "dice"
) -> Figure:
    """A panel per hospital: the mean after each experience and its 95 % interval, a bootstrap over patients.

    Args:
        names: experience → what was trained in it; its point is large.
        unseen: hospitals that are never trained on.
        matrix: the scores.
        metric: one in 0 … 1.
    """
    table, hospitals = matrix.table(metric)
    shown = shown_hospitals(hospitals, table)
    with panels(len(shown), 1.35) as (figure, every):
        for place, (axes, hospital) in enumerate(zip(every, shown, strict=True)):
            values = table[:, hospitals.index(hospital)]
            after = np.flatnonzero(~np.isnan(values))
            _band(axes, matrix, hospital, metric, after, values)
            dotted = hospital in unseen
            axes.plot(after, values[after], "o" + (":" if dotted else "-"), color=PALETTE[0], markersize=3.5)
            own = [i for i in after if names.get(int(i)) == hospital]
            axes.plot(own, values[own], "o", color=PALETTE[1], markersize=8, zorder=3)
            cases = len(matrix.cases(matrix.last, hospital, metric=metric))
            dress(axes, hospital, f" (n = {cases})", len(table) - 1, bottom=place >= len(shown) - 2)
    return figure


def shown_hospitals(hospitals: list[str], table: np.ndarray, most: int = MOST) -> list[str]:
    """All, or those `most` that lost most since their best."""
    if len(hospitals) <= most:
        return hospitals
    lost = np.nanmax(table, axis=0) - table[-1]
    kept = set(np.argsort(-np.nan_to_num(lost, nan=-1.0), kind="stable")[:most])
    return [name for i, name in enumerate(hospitals) if i in kept]


def dress(axes: Axes, hospital: str, more: str, last: int, bottom: bool) -> None:
    """The same frame for every small panel of scores in 0 … 1; a long name is cut, `more` is not."""
    axes.set(ylim=(0, 1.03), xlim=(-0.3, last + 0.3))
    axes.set_yticks([0, 0.5, 1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    room = 32 - len(more)
    name = hospital if len(hospital) <= room else f"{hospital[: room - 1]}…"
    axes.set_title(name + more, fontsize=9, fontweight="normal")
    if bottom:
        axes.set_xlabel("after experience", fontsize=9)
    axes.tick_params(labelsize=9, colors=FAINT)


def _band(
    axes: Axes, matrix: ResultMatrix, hospital: str, metric: str, after: np.ndarray, values: np.ndarray
) -> None:
    """Around the plotted mean over organs, which is not quite the mean over cases where these have other organs."""
    points = []
    for i in after:
        cases = matrix.cases(int(i), hospital, metric=metric)
        people = [patient_of(matrix, hospital, case)[1] for case in cases]
        found = bootstrap_interval(list(cases.values()), people, resamples=RESAMPLES)
        if found.mean is not None and found.low is not None and found.high is not None:
            points.append((i, values[i] + found.low - found.mean, values[i] + found.high - found.mean))
    if points:
        x, low, high = np.array(points).T
        axes.fill_between(x, low, high, color=PALETTE[0], alpha=0.2, linewidth=0)
