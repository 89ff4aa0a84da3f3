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
WANDB_KEYS = ("enabled", "project", "entity", "mode", "images", "artifacts", "timeout")
MOST = 24
"""Overlays: what keeps a page below 10 MB."""
MODES = (None, "online", "offline")


def make_reporters(
    config: Mapping[str, Any],
    folder: Path,
    redact: Callable[[str], str],
    group: str | None,
    build: Callable[[Any, str], Any] | None = None,
) -> Reporters:
    """The run folder always, the others as configured.

    Args:
        config: group `reporter`; see `conf/reporter/default.yaml`.
        folder: of the run.
        redact: removes what is private from a text.
        group: name of the sweep in W&B.
        build: makes a callable of a mapping with `_target_` and `_partial_`, given with its key; without it there are
            no reporters but ours.

    Raises:
        LifelongCTError: an unknown key or mode, a wrong number, or a `_target_` that is no reporter.
    """
    others = {key: value for key, value in config.items() if _has_target(value) and build}
    _known(config, (*KEYS, *others), "reporter")
    wandb = config.get("wandb") or {}
    if not isinstance(wandb, Mapping):
        raise LifelongCTError(f"wandb={wandb!r}", "reporter.wandb", f"there are {', '.join(WANDB_KEYS)}")
    _known(wandb, WANDB_KEYS, "reporter.wandb")
    timeout = wandb.get("timeout", 1)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
        raise LifelongCTError(f"timeout={timeout!r}", "reporter.wandb.timeout", "write seconds, above 0")
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
        chosen = {key: value for key, value in wandb.items() if key != "enabled"}
        reporters.append(WandB(folder, redact, group=group, **chosen))
    for name, options in others.items():
        assert build is not None
        reporters.append(_other(build, f"reporter.{name}", options, folder, redact))
    if config.get("console", True):
        reporters.append(Console(folder))
    return Reporters(reporters, redact)


def _other(
    build: Callable[[Any, str], Any],
    where: str,
    options: Mapping[str, Any],
    folder: Path,
    redact: Callable[[str], str],
) -> Reporter:
    # `redact` learns names until the run starts: it is handed on as it is, not through the configuration.
    make = build({**options, "_partial_": True}, where)
    try:
        reporter = make(folder, redact)
    except TypeError as error:
        raise LifelongCTError(str(error), where, "check its _target_ and arguments") from error
    if not isinstance(reporter, Reporter):
        raise LifelongCTError(
            f"{type(reporter).__name__} is no reporter",
            f"{where}._target_",
            "give it event(name, **data) and close(status); see lifelong_ct.core.protocols.Reporter",
        )
    return reporter


def _has_target(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _known(config: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(config) - set(keys))
    if unknown:
        raise LifelongCTError(f"unknown key {', '.join(unknown)}", where, f"there are {', '.join(keys)}")
