"""The verb `report`: pages, figures and tables from run folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lifelong_ct.cli import compose
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.reporting.checking import check
from lifelong_ct.reporting.sweep import write_report
from lifelong_ct.reporting.text import plural, shown_path

CHECK = "--check"


def main(args: Sequence[str]) -> int:
    """Builds the comparison of `paths.runs`, or of the folders that are the only arguments. With `--check` nothing is
    built: the numbers of the runs are computed again from their cases; 2 where one is another."""
    rest = [arg for arg in args if arg != CHECK]
    folders = [Path(arg) for arg in rest]
    if not folders or any(arg.startswith("-") or "=" in arg for arg in rest):
        folders = [Path(compose.compose(compose.parse(rest)).paths.runs)]
    if CHECK in args:
        return _check_all(folders)
    for folder in folders:
        print(shown_path(write_report(folder), sys.stdout.isatty()))
    return 0


def _check_all(folders: Sequence[Path]) -> int:
    """Every folder is looked at, also behind one that is no run."""
    code, problem = 0, None
    for folder in folders:
        try:
            code = max(code, _check(folder))
        except LifelongCTError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return code


def _check(folder: Path) -> int:
    shown = shown_path(folder, sys.stdout.isatty())
    differences, notes = check(folder)
    for line in (*notes, *differences):
        print(f"{shown}: {line}")
    print(f"{shown}: " + (f"{plural(len(differences), 'difference')}" if differences else "nothing differs"))
    return 2 if differences else 0
