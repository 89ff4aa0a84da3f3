"""A real browser, headless, for pages on this disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Chromium would look up hosts of its own at every start."""
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
CONTRAST = """
() => {
  const rgba = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const lum = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                     return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor);
                        if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!text || !e.checkVisibility() || ["STYLE", "TITLE"].includes(e.tagName.toUpperCase())) continue;
    const style = getComputedStyle(e), ink = e.closest("svg") ? style.fill : style.color;
    const [a, b] = [lum(rgba(ink)), lum(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const scale = e.closest("svg") ? Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b) : 1, size = parseFloat(style.fontSize) * scale;
    if (ratio < 4.5 || size < 9) bad.push([text.slice(0, 40), ratio.toFixed(2), size.toFixed(1)]);
  }
  return bad;
}
"""
"""Texts whose contrast is below WCAG AA, or smaller than 9 pixels: [text, ratio, size]."""
OVERFLOW = """
() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll("main *")].filter(e => {
    if (!e.checkVisibility() || e.closest(".wide, svg")) return false;
    const box = e.getBoundingClientRect();
    return box.right > wide + 0.5 || box.left < -0.5;
  });
  return [document.documentElement.scrollWidth - wide, out.map(e => e.outerHTML.slice(0, 120))];
}
"""
"""Pixels by which the page is wider than the window, and what sticks out beside boxes that scroll."""
SVG_TEXT = """
() => {
  const bad = [];
  for (const figure of document.querySelectorAll("svg")) {
    const frame = figure.getBoundingClientRect();
    if (!frame.width) continue;
    for (const text of figure.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (box.right > frame.right + 1 || box.left < frame.left - 1) bad.push(text.textContent);
    }
  }
  return bad;
}
"""
"""Texts of figures that leave their figure."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none, or one that does not start."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)}")
    with sync_api.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=found, args=list(QUIET))
        except sync_api.Error as error:
            pytest.skip(f"{found} does not start: {str(error).splitlines()[0]}")
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page as a window of some size shows it.

    Attributes:
        said: what the console printed, and errors.
        asked: addresses that were requested, but for the page itself and data in it.
        page: Playwright's.
    """

    def __init__(self, browser: Any, path: Path, size: str, scheme: str) -> None:
        width, height = SIZES[size]
        self.said: list[str] = []
        self.asked: list[str] = []
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            is_mobile=size == "phone",
            device_scale_factor=2 if size == "phone" else 1,
            offline=True,
        )
        self.page = context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        address = path.resolve().as_uri()
        self.page.on(
            "request",
            lambda request: (
                None
                if request.url == address or request.url.startswith("data:")
                else self.asked.append(request.url)
            ),
        )
        self.page.goto(address)

    def unfold(self) -> None:
        """Opens all details."""
        self.page.evaluate("() => document.querySelectorAll('details').forEach(e => { e.open = true; })")

    def __getattr__(self, name: str) -> Any:
        scripts = {"contrast": CONTRAST, "overflow": OVERFLOW, "cut_off": SVG_TEXT}
        return self.page.evaluate(scripts[name])
