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
_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
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
def new_axes(width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """A figure in inches with axes beside each other; no global state of pyplot is touched."""
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, columns, squeeze=False)[0]
        yield figure, list(axes)


def line_style(index: int) -> dict[str, Any]:
    """Colour and marker for the index-th line; past the palette the dashes change."""
    turn, place = divmod(index, len(PALETTE))
    return {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[turn % len(DASHES)]}


def png(figure: Figure) -> bytes:
    """The same bytes for the same figure, whenever and by whichever version of matplotlib's writer."""
    stream = io.BytesIO()
    with matplotlib.rc_context(_RC):
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Writes a PNG atomically."""
    write_bytes(path, png(figure))
    return path
