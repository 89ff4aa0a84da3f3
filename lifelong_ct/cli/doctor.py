"""The verb `doctor`: what this machine can do, and what is missing."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lifelong_ct.cli.conf import plugin_folders
from lifelong_ct.core.units import format_bytes

PACKAGES = (
    "torch",
    "torchvision",
    "avalanche-lib",
    "monai",
    "hydra-core",
    "wandb",
    "numpy",
    "blosc2",
    "nibabel",
    "pydicom",
    "trimesh",
)
ROOM = 10 << 30
"""Free bytes below which a first real hospital may not fit."""


def main(args: Sequence[str]) -> int:
    """Prints the table; 0 where nothing is missing, 2 otherwise."""
    rows = list(_rows())
    table = Table("", "what", "found", "to do")
    for good, what, found, fix in rows:
        table.add_row("[green]ok[/]" if good else "[red]no[/]", what, found, "" if good else fix)
    Console().print(table)
    return 0 if all(good for good, *_ in rows) else 2


def _rows() -> Iterator[tuple[bool, str, str, str]]:
    here = sys.version_info
    yield here >= (3, 10), "Python", f"{here.major}.{here.minor}.{here.micro}", "install Python 3.10 or newer"
    for package in PACKAGES:
        try:
            yield True, package, version(package), ""
        except PackageNotFoundError:
            yield False, package, "–", f"pip install {package}"
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("torchvision")
        yield True, "torch and torchvision agree", "yes", ""
    except (ImportError, RuntimeError, OSError) as error:
        yield False, "torch and torchvision agree", str(error)[:80], "install the pair of the README"
        return
    yield True, "CPU", f"{torch.get_num_threads()} threads", ""
    for i in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(i)
        yield True, f"GPU {i}", f"{card.name}, {format_bytes(card.total_memory)}", ""
    if not torch.cuda.is_available():
        yield True, "GPU", "none: everything runs on the CPU", ""
    free = shutil.disk_usage(Path.cwd()).free
    yield free >= ROOM, "free disk here", format_bytes(free), "free some, or set paths.store elsewhere"
    for name, folder in plugin_folders().items():
        yield True, f"plug-in {name}", str(folder.parent.name), ""
