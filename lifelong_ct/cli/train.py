"""The verb `train`: one run, or a sweep of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lifelong_ct.cli import compose
from lifelong_ct.core.errors import LifelongCTError

if TYPE_CHECKING:
    from lifelong_ct.cli.build import Blueprint

# What is heavy is imported when it is needed: a typo should not wait for torch.


def main(args: Sequence[str]) -> int:
    """Trains; 0 where everything ended well."""
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
    from lifelong_ct.training.folder import claimed, finished

    blueprint = Blueprint(config, command)
    try:
        results = finished(blueprint.folder, blueprint.hash)
        if results is not None:
            print(f"{blueprint.folder.name} is finished already: {blueprint.folder / 'report.html'}")
            return results
        with claimed(blueprint.folder):
            return _train(blueprint)
    except Exception as error:
        raise _told(error, blueprint) from (error if _wants_traceback() else None)


def _train(blueprint: Blueprint) -> dict[str, Any]:
    from lifelong_ct.reporting.build import make_reporters
    from lifelong_ct.training.run import Run

    reporters = make_reporters(
        blueprint.values["reporter"], blueprint.folder, blueprint.redact, blueprint.values.get("group")
    )
    try:
        options = blueprint.options()
        run = Run(options, reporters)
    except Exception as error:
        reporters.event("run_ended", **_failure(blueprint, error))
        reporters.close("failed")
        raise
    return run.execute()


def _failure(blueprint: Blueprint, error: Exception) -> dict[str, Any]:
    """The last event of a run that never began."""
    text = blueprint.redact(str(error) if isinstance(error, LifelongCTError) else repr(error))
    run = {
        "name": blueprint.folder.name,
        "strategy": blueprint.strategy,
        "stream": blueprint.values["stream"]["name"],
        "seed": blueprint.seed,
        "config_hash": blueprint.hash,
        "command": blueprint.command,
    }
    results = {"schema": 1, "status": "failed", "run": run, "scores": [], "summary": {}, "error": text}
    return {"status": "failed", "results": results, "matrix": None, "error": text}


def _told(error: Exception, blueprint: Blueprint) -> Exception:
    """What the terminal may show: terminals of batch jobs are log files."""
    if isinstance(error, LifelongCTError):
        hint = "" if "<" not in blueprint.redact(str(error)) else "; `lifelong-ct verify` shows real names"
        parts = (
            blueprint.redact(error.what),
            blueprint.redact(error.where),
            blueprint.redact(error.fix) + hint,
        )
        return LifelongCTError(*parts)
    bug = LifelongCTError(
        blueprint.redact(f"{type(error).__name__}: {error}"),
        f"run {blueprint.folder.name}",
        "this is unexpected: HYDRA_FULL_ERROR=1 shows where it happened (and private paths)",
    )
    bug.exit_code = 1
    return bug


def _wants_traceback() -> bool:
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def _sweep(request: compose.Request) -> int:
    from lifelong_ct.reporting.sweep import write_report

    outcomes = compose.sweep(request, _job)
    for folder in sorted({outcome["runs"] for outcome in outcomes}):
        print(f"\ncomparison: {write_report(Path(folder))}")
    failed = [outcome["name"] for outcome in outcomes if outcome["status"] == "failed"]
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def _job(config: DictConfig) -> dict[str, str]:
    """One job of a sweep; its failure is told and leaves the others alone."""
    overrides = list(HydraConfig.get().overrides.task)
    try:
        results = train(config, overrides)
        name, status = str(results["run"]["name"]), str(results["status"])
    except LifelongCTError as error:
        print(f"error: {error}\n", file=sys.stderr)
        name, status = " ".join(overrides), "failed"
    return {"name": name, "status": status, "runs": str(config.paths.runs)}
