"""The verb `verify`: every problem of every hospital of a stream, with its fix."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lifelong_ct.cli import compose, privacy
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.cli.telling import place_of
from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.files import write_json
from lifelong_ct.core.units import parse_bytes
from lifelong_ct.data.layouts import Layout, open_layout
from lifelong_ct.data.verify import Problem, verify_stream

MOST_WORKERS = 8


def main(args: Sequence[str]) -> int:
    """0 clean, 2 not. Real names are shown on an interactive terminal and in the file of `verify.json=`."""
    wanted = [arg.removeprefix("verify.json=") for arg in args if arg.startswith("verify.json=")]
    request = compose.parse([arg for arg in args if not arg.startswith("verify.json=")])
    blueprint = Blueprint(compose.compose(request), request.overrides)
    with blueprint.discreet():
        problems = _problems(blueprint)
    if wanted:
        write_json(
            Path(wanted[-1]), [{k: str(v) for k, v in asdict(problem).items()} for problem in problems]
        )
    _show(problems, blueprint)
    return 2 if problems else 0


def _problems(blueprint: Blueprint) -> list[Problem]:
    """Of the hospitals that cannot be opened, and of all others together."""
    layouts: dict[str, Layout] = {}
    closed: list[Problem] = []
    for place, entry in enumerate(privacy.hospitals(blueprint.values)):
        rest = {key: value for key, value in entry.items() if key != "sharing"}
        try:
            layouts[f"{place} {entry.get('name')}"] = open_layout(rest)
        except LifelongCTError as error:
            code = error.code if isinstance(error, DataError) else "configuration"
            closed.append(Problem("", error.where, code, error.what, "", error.fix))
    limit = blueprint.values["memory"]["ram"]
    ram = None if limit is None else parse_bytes(limit, "memory.ram")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("reading", total=None)
        workers = max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0))))
        found = verify_stream(
            layouts, workers, ram, lambda done, total: bar.update(task, completed=done, total=total)
        )
        return closed + list(found)


def _show(problems: Sequence[Problem], blueprint: Blueprint) -> None:
    if not problems:
        print("no problem found")
        return
    show = str if sys.stdout.isatty() else partial(place_of, redact=blueprint.redact)
    table = Table("case", "file", "code", "found", "expected", "fix", title=f"{len(problems)} problems")
    for problem in problems:
        table.add_row(*(show(value) for value in asdict(problem).values()))
    console = Console()
    console.print(table)
    if not sys.stdout.isatty():
        console.print("real names: on an interactive terminal, or with verify.json=FILE")
