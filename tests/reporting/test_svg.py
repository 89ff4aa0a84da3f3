import re
from xml.etree import ElementTree

from lifelong_ct.reporting.figures import memory_bars
from lifelong_ct.reporting.style import FAINT, INK, new_axes
from lifelong_ct.reporting.svg import svg


def figure():
    with new_axes(3, 2) as (made, (axes,)):
        axes.plot([0, 1], [0, 1], "o", color="#0072B2")
        axes.set_title("a < b & c")
    return made


def test_the_same_figure_is_the_same_text() -> None:
    assert svg(figure(), "one", "what") == svg(figure(), "one", "what")


def test_greys_follow_the_page_and_text_stays_text() -> None:
    made = svg(figure(), "one", 'says "so"')
    assert "var(--ink)" in made
    assert INK not in made
    assert FAINT not in made
    root = ElementTree.fromstring(made)
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a < b & c" in texts
    assert (root.get("role"), root.get("aria-label")) == ("img", 'says "so"')
    assert root.get("viewBox") == "0 0 216 144"  # 3 × 2 inches of 72 points
    assert root.get("width") is None


def test_two_figures_share_no_id_and_every_reference_leads_somewhere() -> None:
    memory = {"ram": {"limit": 4096, "peak": 4096, "used": 1024}}
    pages = [svg(figure(), "one", ""), svg(memory_bars(memory), "two", "")]
    ids = [re.findall(r' id="([^"]+)"', made) for made in pages]
    assert set(ids[0]).isdisjoint(ids[1])
    for made, own in zip(pages, ids, strict=True):
        assert len(own) == len(set(own))
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', made)) == set(own)
