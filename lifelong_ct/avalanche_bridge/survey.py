"""Every plugin of the installed Avalanche, and the table of docs/avalanche_plugins.md.

python -m lifelong_ct.avalanche_bridge.survey > docs/avalanche_plugins.md
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil

import avalanche.training
from avalanche.core import BasePlugin

from lifelong_ct.avalanche_bridge.verdicts import BRIDGE, REFUSED, UNMODIFIED, VERDICTS

COMMAND = "python -m lifelong_ct.avalanche_bridge.survey > docs/avalanche_plugins.md"
_TITLES = {
    UNMODIFIED: "Run unmodified",
    BRIDGE: "Run through the bridge",
    REFUSED: "Refused",
}
_SAYS = {
    UNMODIFIED: "Their hooks run as Avalanche wrote them; their attributes go into checkpoints.",
    BRIDGE: "They keep indices into datasets; here their items are copied into memory that the limits count, from hospitals "
    "that share patches only.",
    REFUSED: "A run that names one ends before anything is read, with this reason and what to use.",
}


def stock_plugins() -> dict[str, type]:
    """Class name → class, of all that `avalanche.training` and its modules hold and that can hook into training: what
    derives from `BasePlugin`, or is called a plugin. Without the abstract bases of `avalanche.core`."""
    found = {}
    for module in pkgutil.walk_packages(avalanche.training.__path__, "avalanche.training."):
        for name, given in vars(importlib.import_module(module.name)).items():
            kind = (
                inspect.unwrap(given) if callable(given) else None
            )  # what is deprecated is wrapped by a function
            if not inspect.isclass(kind):
                continue
            own = kind.__module__.startswith("avalanche.")
            base = kind.__module__ == "avalanche.core" and kind.__name__ != "SupervisedPlugin"
            if own and not base and (issubclass(kind, BasePlugin) or name.endswith("Plugin")):
                found[kind.__name__] = kind
    return found


def document() -> str:
    """The table, in Markdown."""
    version = importlib.metadata.version("avalanche-lib")
    lines = [
        "# Avalanche's own plugins",
        "",
        f"<!-- made by: {COMMAND} -->",
        f"All plugins of `avalanche.training`, Avalanche {version}. `_target_: avalanche.training.plugins.EWCPlugin` in a",
        "strategy's YAML runs one. A subclass of yours shares the verdict of what it derives from. What is said here is decided",
        "in `lifelong_ct/avalanche_bridge/verdicts.py` and tried by `tests/avalanche_bridge/test_verdicts.py`.",
    ]
    plugins = stock_plugins()
    for runs, title in _TITLES.items():
        heads = ["why", "ours instead"] if runs == REFUSED else ["to know", "ours"]
        lines += ["", f"## {title}", _SAYS[runs], "", f"| plugin | {' | '.join(heads)} |", "|---|---|---|"]
        for name in sorted((n for n in plugins if n in VERDICTS and VERDICTS[n].runs == runs), key=str.lower):
            verdict = VERDICTS[name]
            lines.append(f"| `{name}` | {verdict.why} | `{verdict.ours}` |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(document(), end="")
