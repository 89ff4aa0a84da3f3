"""The verb `doctor`: what this machine can do, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from lifelong_ct.cli import compose
from lifelong_ct.cli.conf import own_folder, plugin_folders, plugin_packages
from lifelong_ct.cli.health import (
    Finding,
    folders,
    host,
    packages,
    python,
    torch_and_cards,
    version_of,
    wandb,
)


def main(args: Sequence[str]) -> int:
    """`[overrides] [--json]`: prints what is found; 0 where nothing is missing, 2 otherwise."""
    rest = [arg for arg in args if arg != "--json"]
    request = compose.parse(rest)
    values = compose.plain(compose.compose(request))
    found = [
        python(),
        *packages(),
        *torch_and_cards(),
        *host(values["memory"]),
        *folders(values["paths"], values["memory"]),
        wandb((values["reporter"] or {}).get("wandb") or {}),
        *_plugins(),
        _configuration(values),
    ]
    good = all(finding.good for finding in found)
    if "--json" in args:
        print(json.dumps({"schema": 1, "ok": good, "found": [f._asdict() for f in found]}, indent=1))
    else:
        _print(found)
    return 0 if good else 2


def _print(found: Sequence[Finding]) -> None:
    table = Table("", "what", "found", "next", box=None)
    for finding in found:
        table.add_row("[green]ok[/]" if finding.good else "[red]no[/]", *map(str, finding[1:]))
    console = Console()
    console.print(table)
    wrong = sum(not finding.good for finding in found)
    console.print(f"\n{wrong} to mend" if wrong else "\nnothing is missing")


def _plugins() -> Iterator[Finding]:
    packages = plugin_packages()
    for name, folder in plugin_folders().items():
        count = sum(1 for _ in folder.glob("*/*.yaml"))
        version = version_of(packages[name].split(".")[0].replace("_", "-"))
        yield Finding(True, f"plug-in {name}", f"{version or packages[name]}, {count} configurations", "")


def _configuration(values: Mapping[str, Any]) -> Finding:
    where = "of the package" if own_folder().parent.name == "lifelong_ct" else "of the checkout"
    chosen = ", ".join(f"{group}={(values[group] or {}).get('name')}" for group in ("stream", "strategy"))
    return Finding(True, "configuration", f"conf/ {where}: {chosen}", "lifelong-ct --cfg shows all of it")
