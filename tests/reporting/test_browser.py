"""Pages in a real browser: on a phone and a desktop, light and dark, without a network."""

import itertools
import os
from pathlib import Path

import generated
import pytest
from browsing import SIZES, Visit, chromium

from lifelong_ct.reporting.sweep import write_report

LIMIT = 5_000_000


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with overlays, and a sweep of 4 strategies × 3 seeds."""
    folder = tmp_path_factory.mktemp("runs")
    generated.sweep(folder)
    return {"run": folder / "phantom-naive-s0-00000000" / "report.html", "sweep": write_report(folder)}


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def test_a_browser_that_does_not_start_is_none(tmp_path: Path, monkeypatch) -> None:
    stub = tmp_path / "chromium"
    stub.write_text("#!/bin/sh\necho 'install the snap first' >&2\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(pytest.skip.Exception, match="chromium does not start: "), chromium():
        raise AssertionError("it did")


def test_they_are_small(pages: dict[str, Path]) -> None:
    assert 50_000 < pages["sweep"].stat().st_size < LIMIT
    assert 50_000 < pages["run"].stat().st_size < LIMIT


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
@pytest.mark.parametrize("name", ["run", "sweep"])
def test_everything_can_be_read(browser, pages: dict[str, Path], name: str, size: str, scheme: str) -> None:
    visit = Visit(browser, pages[name], size, scheme)
    visit.unfold()
    assert visit.said == []
    assert visit.asked == []
    assert visit.overflow == [0, []]
    assert visit.cut_off == []
    assert visit.contrast == []
    dark = (
        visit.page.evaluate("() => getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    )
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("name", ["run", "sweep"])
def test_a_screen_reader_finds_its_way(browser, pages: dict[str, Path], name: str) -> None:
    page = Visit(browser, pages[name], "desktop", "light").page
    assert page.evaluate("() => document.documentElement.lang") == "en"
    assert page.title()
    levels = page.evaluate("() => [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    nameless = "() => [...document.querySelectorAll('img:not([alt]), svg:not([aria-label])')].length"
    assert page.evaluate(nameless) == 0
    twice = "() => { const i = [...document.querySelectorAll('[id]')].map(e => e.id); return i.length - new Set(i).size; }"
    assert page.evaluate(twice) == 0
