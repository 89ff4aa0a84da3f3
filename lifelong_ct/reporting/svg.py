"""A figure as SVG that stands inside a page: its greys follow the page's light and dark, its text stays text."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from lifelong_ct.reporting.style import FAINT, GRID, INK, RC

THEME = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    GRID: "var(--line)",
    "#000000": "var(--ink)",
    "#ffffff": "var(--page)",
}
"""Colours of a figure → variables of `page.css`."""
FONT = "DejaVu Sans, Verdana, sans-serif"
"""Verdana is as wide as the font that the figure was laid out with, and is on most machines."""
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_COLOUR = re.compile("|".join(THEME))
_USED = re.compile(r"url\(#([^)]+)\)")


def svg(figure: Figure, name: str, alt: str) -> str:
    """The `<svg>` element, without ids that nobody refers to; the same text for the same figure.

    Args:
        figure: drawn with `style.new_axes`.
        name: unique within the page; begins every id.
        alt: what screen readers say.
    """
    stream = io.StringIO()
    with matplotlib.rc_context({**RC, "svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(stream.getvalue())
    _drop_metadata(root)
    used = _used(root)
    for element in root.iter():
        _themed(element)
        _renamed(element, name, used)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update({"role": "img", "aria-label": alt})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _drop_metadata(root: ElementTree.Element) -> None:
    for child in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(child)


def _used(root: ElementTree.Element) -> set[str]:
    found = {e.get(f"{{{_XLINK}}}href", "")[1:] for e in root.iter()}
    return found.union(*(_USED.findall(value) for e in root.iter() for value in e.attrib.values()))


def _themed(element: ElementTree.Element) -> None:
    style = element.get("style")
    if style:
        style = _COLOUR.sub(lambda match: THEME[match[0]], style)
        element.set("style", re.sub(r"'DejaVu Sans'[^;]*", FONT, style))


def _renamed(element: ElementTree.Element, name: str, used: set[str]) -> None:
    if (own := element.attrib.pop("id", None)) in used:
        element.set("id", f"{name}-{own}")
    if (link := element.get(f"{{{_XLINK}}}href", "")).startswith("#"):
        element.set(f"{{{_XLINK}}}href", f"#{name}-{link[1:]}")
    for key, value in element.attrib.items():
        if "url(#" in value:
            element.set(key, _USED.sub(rf"url(#{name}-\1)", value))
