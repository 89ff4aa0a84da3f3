"""Writes the list of strategies at the end of docs/strategies.md: python docs/list_strategies.py"""

from __future__ import annotations

import itertools
from pathlib import Path

from lifelong_ct.cli.conf import own_folder

PAGE = Path(__file__).parent / "strategies.md"
HEADING = "## What there is\n"


def page() -> str:
    """The page with the list that `conf/strategy` makes."""
    files = sorted((own_folder() / "strategy").glob("*.yaml"))
    rows = [f"| `{file.stem}` | {opening(file)} |" for file in files]
    table = "\n".join(["| `strategy=` | |", "|---|---|", *rows])
    note = "<!-- made by: python docs/list_strategies.py, from the opening comments in conf/strategy -->"
    return f"{PAGE.read_text().split(HEADING)[0]}{HEADING}{note}\n{table}\n"


def opening(file: Path) -> str:
    """The comment that a YAML opens with, without its commands."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines())
    return " ".join(line[2:] for line in lines if not line.startswith("#  "))


if __name__ == "__main__":
    PAGE.write_text(page())
