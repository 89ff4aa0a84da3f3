"""How far predicted volumes agree with the reference, at the end of a run: Bland & Altman (1986),
doi:10.1016/S0140-6736(86)90837-8."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lifelong_ct.evaluation.agreement import Agreement, volume_agreement, volume_pairs
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.style import FAINT, PALETTE, legend_below, panels

MOST = 12
"""Organs in the figure: those that agree least. All are in the table."""


class Volumes(NamedTuple):
    """Of one organ, a value per case, in mL: mean of both, predicted − reference, and whether it was trained on."""

    organ: str
    mean: npt.NDArray[np.float64]
    difference: npt.NDArray[np.float64]
    trained: npt.NDArray[np.bool_]

    @property
    def relative(self) -> float:
        """Mean absolute difference over the mean volume."""
        return float(np.abs(self.difference).mean() / max(self.mean.mean(), 1e-9))


def volumes(matrix: ResultMatrix, unseen: Collection[str]) -> list[Volumes]:
    """Per organ, after the last experience: `volume_pairs`."""
    found = []
    for organ, each in volume_pairs(matrix).items():
        mine, theirs = np.array(each.predicted), np.array(each.reference)
        trained = np.array([hospital not in unseen for hospital, _ in each.patients])
        found.append(Volumes(organ, (mine + theirs) / 2, mine - theirs, trained))
    return found


def agreement_panels(matrix: ResultMatrix, unseen: Collection[str]) -> Figure | None:
    """A panel per organ, difference over mean; None without volumes."""
    every = volumes(matrix, unseen)
    if not every:
        return None
    found = volume_agreement(matrix)
    kept = {each.organ for each in sorted(every, key=lambda each: -each.relative)[:MOST]}
    shown = [each for each in every if each.organ in kept]
    with panels(len(shown), 1.6) as (figure, axes):
        for place, (one, each) in enumerate(zip(axes, shown, strict=True)):
            _panel(one, each, found[each.organ], bottom=place >= len(shown) - 2)
        if any(not each.trained.all() for each in shown):
            legend_below(figure, max(axes, key=lambda one: len(one.get_legend_handles_labels()[1])))
    return figure


def _panel(axes: Axes, each: Volumes, found: Agreement, bottom: bool) -> None:
    for trained, face, label in ((True, PALETTE[0], "trained on"), (False, "none", "unseen hospital")):
        own = each.trained == trained
        if own.any():
            axes.plot(
                each.mean[own],
                each.difference[own],
                "o",
                markersize=4.5,
                color=PALETTE[0],
                markerfacecolor=face,
                label=label,
                rasterized=len(each.mean) > 500,
            )
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.axhline(found.bias, color=PALETTE[1], linewidth=1.5)
    for limit in found.limits or ():
        axes.axhline(limit, color=PALETTE[1], linewidth=1.2, linestyle=(0, (4, 3)))
    axes.margins(x=0.12, y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    name = each.organ if len(each.organ) < 22 else f"{each.organ[:20]}…"
    axes.set_title(f"{name} (n = {len(each.mean)})", fontsize=9, fontweight="normal")
    axes.set_ylabel("difference, mL", fontsize=9)
    if bottom:
        axes.set_xlabel("mean of both, mL", fontsize=9)
    axes.tick_params(labelsize=9, colors=FAINT)
