"""The verb `train`: one run, or a sweep of them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lifelong_ct.cli import compose, privacy
from lifelong_ct.core.errors import LifelongCTError, Refused
from lifelong_ct.reporting.text import shown_path

if TYPE_CHECKING:
    from lifelong_ct.cli.build import Blueprint

# What is heavy is imported when it is needed: a typo should not wait for torch.


def main(args: Sequence[str]) -> int:
    """Trains; 0 where everything ended well. A method that does not allow a scenario is an error for a single run, and
    an answer in a sweep: its reason stands in the run's results and in the comparison."""
    request = compose.parse(args)
    if request.print_only:
        print(OmegaConf.to_yaml(compose.compose(request)), end="")
        return 0
    if not compose.is_sweep(request):
        train(compose.compose(request), request.overrides)
        return 0
    return _sweep(request)


def train(config: DictConfig, command: list[str]) -> dict[str, Any]:
    """One run, resumed or skipped where its folder says so; its results.

    Raises:
        LifelongCTError: redacted, whatever went wrong.
    """
    from lifelong_ct.cli.build import Blueprint
    from lifelong_ct.cli.telling import cause, told
    from lifelong_ct.reporting.run_folder import PAGE
    from lifelong_ct.training.folder import claimed, finished

    redact: Callable[[str], str] = str
    where = "the configuration"
    try:
        values = compose.plain(config)
        privacy.check_form(values)
        redact = privacy.without_paths(values)
        blueprint = Blueprint(config, command)
        redact, where = blueprint.redact, f"run {blueprint.name}"
        results = finished(blueprint.folder, blueprint.hash)
        if results is not None:
            page = shown_path(blueprint.folder / PAGE, sys.stdout.isatty())
            print(f"{blueprint.name} is finished already: {page}")
            return results
        with claimed(blueprint.folder):
            return _train(blueprint)
    except Exception as error:
        raise told(error, redact, where) from cause(error)


def _train(blueprint: Blueprint) -> dict[str, Any]:
    from lifelong_ct.cli.instantiate import build
    from lifelong_ct.reporting.build import make_reporters
    from lifelong_ct.training.run import Run

    values = blueprint.values
    reporters = make_reporters(
        values["reporter"], blueprint.folder, blueprint.redact, values.get("group"), build
    )
    try:
        options = blueprint.options()
        run = Run(options, reporters)
    except Exception as error:
        status = "refused" if isinstance(error, Refused) else "failed"
        reporters.event("run_ended", **_failure(blueprint, error, status))
        reporters.close(status)
        raise
    return run.execute()


def _failure(blueprint: Blueprint, error: Exception, status: str) -> dict[str, Any]:
    """The last event of a run that never began."""
    text = blueprint.redact(str(error) if isinstance(error, LifelongCTError) else repr(error))
    run = {
        "name": blueprint.name,
        "strategy": blueprint.strategy,
        "stream": blueprint.values["stream"]["name"],
        "seed": blueprint.seed,
        "group": blueprint.values.get("group"),
        "config_hash": blueprint.hash,
        "command": blueprint.command,
    }
    results = {"schema": 1, "status": status, "run": run, "scores": [], "summary": {}, "error": text}
    return {"status": status, "results": results, "matrix": None, "error": text}


def _sweep(request: compose.Request) -> int:
    from lifelong_ct.reporting.sweep import write_report

    outcomes = compose.sweep(request, partial(_job, group=group_of(request.overrides)))
    for folder in sorted({outcome["runs"] for outcome in outcomes}):
        if not Path(folder).is_dir():  # its jobs have said why
            continue
        print(f"\ncomparison: {shown_path(write_report(Path(folder)), sys.stdout.isatty())}")
    failed = [outcome["name"] for outcome in outcomes if outcome["status"] == "failed"]
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def _shown(overrides: Sequence[str], config: DictConfig) -> str:
    text = " ".join(o for o in overrides if not o.startswith("paths."))
    try:
        return privacy.without_paths(compose.plain(config))(text)
    except (LifelongCTError, AttributeError, TypeError, KeyError):  # what is wrong has been told
        return text


def group_of(overrides: Sequence[str]) -> str:
    """Name in W&B of a sweep that has none: the same for all its jobs, and when it is given again."""
    kept = sorted(o for o in overrides if not o.startswith("paths."))
    return f"sweep-{hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:8]}"


def _job(config: DictConfig, group: str) -> dict[str, str]:
    """One job of a sweep; its failure, or why it was refused, is told and leaves the others alone."""
    overrides = list(HydraConfig.get().overrides.task)
    if config.group is None:
        config.group = group
    try:
        results = train(config, overrides)
        name, status = str(results["run"]["name"]), str(results["status"])
    except LifelongCTError as error:
        status = "refused" if isinstance(error, Refused) else "failed"
        print(f"{'refused' if status == 'refused' else 'error'}: {error}\n", file=sys.stderr)
        name = _shown(overrides, config)
    return {"name": name, "status": status, "runs": str(config.paths.runs)}
