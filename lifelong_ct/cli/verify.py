"""The verb `verify`: every problem of every hospital of a stream, with its fix."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lifelong_ct.cli import compose, privacy
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.cli.telling import place_of
from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.files import write_json
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.verify import Problem, verify


def main(args: Sequence[str]) -> int:
    """0 clean, 2 not. Real names are shown on an interactive terminal and in the file of `verify.json=`."""
    wanted = [arg.removeprefix("verify.json=") for arg in args if arg.startswith("verify.json=")]
    request = compose.parse([arg for arg in args if not arg.startswith("verify.json=")])
    blueprint = Blueprint(compose.compose(request), request.overrides)
    with blueprint.discreet():
        problems = [p for entry in privacy.hospitals(blueprint.values) for p in _of_hospital(entry)]
    if wanted:
        write_json(
            Path(wanted[-1]), [{k: str(v) for k, v in asdict(problem).items()} for problem in problems]
        )
    _show(problems, blueprint)
    return 2 if problems else 0


def _of_hospital(entry: Mapping[str, Any]) -> list[Problem]:
    rest = {key: value for key, value in entry.items() if key != "sharing"}
    try:
        return list(verify(open_layout(rest)))
    except LifelongCTError as error:
        code = error.code if isinstance(error, DataError) else "configuration"
        return [Problem("", error.where, code, error.what, "", error.fix)]


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
