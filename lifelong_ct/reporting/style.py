"""How every figure looks: a palette that colour-blind people can tell apart, and PNGs that do not change."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lifelong_ct.core.files import write_bytes

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
"""Okabe & Ito (2008), https://jfly.uni-koeln.de/color/; their yellow, too light for a line, is brown here."""
MARKERS = "osD^vP*X"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)))
INK, FAINT, GRID = "#222222", "#666666", "#dddddd"
DPI = 150
WIDTH = 4.6
"""Inches: 10 points are as large as the text around them on a phone, and a page holds two or three beside each other."""
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
}


@contextmanager
def new_axes(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """A figure in inches with axes row by row; no global state of pyplot is touched."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, list(figure.subplots(rows, columns, squeeze=False).ravel())
        figure.draw_without_rendering()
        figure.set_layout_engine(
            "none"
        )  # once: every file of a figure would have it done again, at half of the cost


@contextmanager
def panels(count: int, height: float, columns: int = 2) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """`count` small axes of `height` inches, `columns` beside each other; what is left of the last row stays empty."""
    rows = -(-count // columns)
    with new_axes(WIDTH, 0.3 + height * rows, columns, rows) as (figure, every):
        for axes in every[count:]:
            axes.set_axis_off()
        yield figure, every[:count]


def legend_below(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Each label once, under the axes: beside them a phone has no room."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=columns, fontsize=9)


def name_above(axes: Axes, names: Sequence[str]) -> None:
    """Horizontal bars at 0, 1, … get their names above them, at the left: names may be long."""
    for y, name in enumerate(names):
        axes.text(0.01, y - 0.24, name, transform=axes.get_yaxis_transform(), fontsize=9, va="bottom")
    axes.set_yticks([])
    axes.set(ylim=(len(names) - 0.6, -0.75))
    axes.grid(axis="y", visible=False)


def line_style(index: int) -> dict[str, Any]:
    """Colour and marker for the index-th line; past the palette the dashes change."""
    turn, place = divmod(index, len(PALETTE))
    return {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[turn % len(DASHES)]}


def png(figure: Figure) -> bytes:
    """The same bytes for the same figure, whenever and by whichever version of matplotlib's writer."""
    stream = io.BytesIO()
    with matplotlib.rc_context(RC):
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Writes a PNG atomically."""
    write_bytes(path, png(figure))
    return path
