"""The reporters that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.protocols import Reporter
from lifelong_ct.reporting.console import Console
from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.html import HtmlReport
from lifelong_ct.reporting.overlays import WORST, Overlays
from lifelong_ct.reporting.run_folder import RunFolder
from lifelong_ct.reporting.wandb import WandB

KEYS = ("console", "html", "overlays", "wandb")
WANDB_KEYS = ("enabled", "project", "entity", "mode")
MOST = 24
"""Overlays: what keeps a page below 10 MB."""
MODES = (None, "online", "offline")


def make_reporters(
    config: Mapping[str, Any], folder: Path, redact: Callable[[str], str], group: str | None
) -> Reporters:
    """The run folder always, the others as configured.

    Args:
        config: group `reporter`; see `conf/reporter/default.yaml`.
        folder: of the run.
        redact: removes what is private from a text.
        group: name of the sweep in W&B.

    Raises:
        LifelongCTError: an unknown key or mode, or a wrong number.
    """
    _known(config, KEYS, "reporter")
    wandb = config.get("wandb") or {}
    if not isinstance(wandb, Mapping):
        raise LifelongCTError(f"wandb={wandb!r}", "reporter.wandb", f"there are {', '.join(WANDB_KEYS)}")
    _known(wandb, WANDB_KEYS, "reporter.wandb")
    if wandb.get("mode") not in MODES:
        raise LifelongCTError(
            f"mode={wandb['mode']!r} is unknown", "reporter.wandb.mode", "use online, offline or null"
        )
    reporters: list[Reporter] = [RunFolder(folder, redact)]
    worst = config.get("overlays", WORST)
    if not isinstance(worst, int) or isinstance(worst, bool) or not 0 <= worst <= MOST:
        raise LifelongCTError(
            f"overlays={worst!r}", "reporter.overlays", f"write how many cases, 0 to {MOST}; 0 draws none"
        )
    if worst:
        reporters.append(Overlays(folder, worst))
    if config.get("html", True):
        reporters.append(HtmlReport(folder))
    if wandb.get("enabled"):
        chosen = {key: wandb[key] for key in ("project", "entity", "mode") if key in wandb}
        reporters.append(WandB(folder, redact, group=group, **chosen))
    if config.get("console", True):
        reporters.append(Console(folder))
    return Reporters(reporters, redact)


def _known(config: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(config) - set(keys))
    if unknown:
        raise LifelongCTError(f"unknown key {', '.join(unknown)}", where, f"there are {', '.join(keys)}")
