"""What every page is made of: templates, figures inside the text, tables whose cells are coloured."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from lifelong_ct.reporting.figures import heat_colours
from lifelong_ct.reporting.style import save
from lifelong_ct.reporting.svg import svg
from lifelong_ct.reporting.text import number

TEMPLATES = Path(__file__).parent / "templates"
ALT = {
    "matrix": "Result matrix as colours",
    "hospitals": "Score of each hospital after each experience",
    "agreement": "Difference of predicted and reference volume over their mean, per organ",
    "loss": "Training loss over the optimizer steps",
    "memory": "Memory at its peak beside the limit of each kind",
    "time": "Share of reading, training and evaluation in the time",
    "final": "Mean Dice at the end per strategy",
    "forgetting": "Backward transfer and forgetting per strategy",
    "learning": "Mean Dice on what was met so far",
    "each": "Dice of each hospital after each experience, per strategy",
    "bytes": "Dice at the end over the bytes of stored exemplars",
}
"""Last part of a figure's name → what it shows, for those who do not see it."""


@dataclass(frozen=True)
class Picture:
    """A figure of a page; drawn as SVG where a template shows it, and not before."""

    name: str
    figure: Figure

    @property
    def svg(self) -> Markup:
        """For the page, with a description."""
        return Markup(svg(self.figure, f"f{self.name}", ALT[self.name.split("-")[-1]]))


def write_figures(figures: Mapping[str, Figure], folder: Path) -> dict[str, Picture]:
    """Saves each figure as a PNG of its own; name → what the page shows."""
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
    return {name: Picture(name, figure) for name, figure in figures.items()}


def data_uri(picture: bytes) -> str:
    """A PNG as an address that needs no file."""
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def render(template: str, **context: Any) -> str:
    """A template of this room, everything escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["soft"] = soft
    return environment.get_template(template).render(**context)


def soft(name: str) -> Markup:
    """A name that may break into lines after its underscores and dashes, and nowhere else."""
    return Markup(re.sub("([_-])", r"\1<wbr>", str(escape(name))))


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


def _cell(value: float | None, own: bool, coloured: bool) -> dict[str, Any]:
    style = ""
    if value is not None and coloured:
        background, ink = heat_colours(value)
        style = f"background:{background};color:{ink}"
    return {"text": number(value), "own": own, "style": style}
