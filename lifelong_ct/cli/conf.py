"""Where configurations are: ours, and those of installed plug-ins. Imports nothing heavy."""

from __future__ import annotations

import importlib.util
from importlib.metadata import entry_points
from pathlib import Path

from lifelong_ct.core.errors import LifelongCTError

PLUGINS = "lifelong_ct.plugins"


def own_folder() -> Path:
    """Our `conf/`: inside the package when installed from a wheel, beside it in a checkout.

    Raises:
        LifelongCTError: neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").exists():
            return folder
    raise LifelongCTError("the configuration is missing", str(package), "install lifelong-ct again")


def plugin_packages() -> dict[str, str]:
    """Name of each plug-in → its package."""
    return {entry.name: entry.value.split(":")[0] for entry in entry_points(group=PLUGINS)}


def plugin_folders() -> dict[str, Path]:
    """Name of each plug-in → its `conf/`.

    Raises:
        LifelongCTError: a plug-in without one.
    """
    return {name: _plugin_folder(name, package) for name, package in plugin_packages().items()}


def options() -> dict[str, list[str]]:
    """Every group and the choices it has, plug-ins included."""
    found: dict[str, set[str]] = {}
    for folder in (own_folder(), *plugin_folders().values()):
        for file in folder.glob("*/*.yaml"):
            found.setdefault(file.parent.name, set()).add(file.stem)
    return {group: sorted(choices) for group, choices in sorted(found.items())}


def first_comment(group: str, choice: str) -> str:
    """The line a YAML opens with."""
    for folder in (own_folder(), *plugin_folders().values()):
        file = folder / group / f"{choice}.yaml"
        if file.exists():
            comments = (line[1:].strip() for line in file.read_text().splitlines() if line.startswith("#"))
            return next((text for text in comments if not text.startswith("@package")), "")
    return ""


def _plugin_folder(name: str, package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a package inside one that is not there
        spec = None
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(location) / "conf").is_dir():
            return folder
    raise LifelongCTError(
        f"the plug-in {name} has no conf/ folder in its package {package}",
        f"entry point {PLUGINS}",
        f"uninstall it, or add {package}/conf/",
    )
