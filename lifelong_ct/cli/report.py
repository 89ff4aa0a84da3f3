"""The verb `report`: pages, figures and tables from run folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lifelong_ct.cli import compose
from lifelong_ct.reporting.sweep import write_report
from lifelong_ct.reporting.text import shown_path


def main(args: Sequence[str]) -> int:
    """Builds the comparison of `paths.runs`, or of the folders that are the only arguments."""
    folders = [Path(arg) for arg in args]
    if not folders or any(arg.startswith("-") or "=" in arg for arg in args):
        folders = [Path(compose.compose(compose.parse(args)).paths.runs)]
    for folder in folders:
        print(shown_path(write_report(folder), sys.stdout.isatty()))
    return 0
