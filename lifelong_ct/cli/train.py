"""The verb `train`: one run, or a sweep of them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
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
    from lifelong_ct.core.ranks import Ranks

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
    from lifelong_ct.training.group import started

    if started() > 1:
        raise LifelongCTError(
            f"{started()} ranks were started for a sweep", "-m", "give torchrun one run at a time"
        )
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
    from lifelong_ct.training.group import joined

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
        with joined() as ranks, claimed(blueprint.folder) if ranks.first else nullcontext():
            return _train(blueprint, ranks)
    except Exception as error:
        raise told(error, redact, where) from cause(error)


def _train(blueprint: Blueprint, ranks: Ranks) -> dict[str, Any]:
    from lifelong_ct.cli.instantiate import build
    from lifelong_ct.reporting.build import make_reporters
    from lifelong_ct.training.group import Silent
    from lifelong_ct.training.prediction.record import fitted_run
    from lifelong_ct.training.run import Run

    values = blueprint.values
    made = (values["reporter"], blueprint.folder, blueprint.redact, values.get("group"), build)
    reporters: Any = make_reporters(*made) if ranks.first else Silent()
    try:
        options = fitted_run(blueprint.options())
        run = Run(options, reporters, ranks)
    except Exception as error:
        status = "refused" if isinstance(error, Refused) else "failed"
        reporters.event("run_ended", **_failure(blueprint, error, status))
        reporters.close(status)
        raise
    results = run.execute()
    run.calibrate(Path(values["paths"]["state"]))
    return results


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


@dataclass(frozen=True)
class Outcome:
    """How a job of a sweep ended, picklable: it may come from another process.

    Attributes:
        name: of the run, or what was asked where there is none.
        status: as in `results.json`.
        runs: its `paths.runs`.
        acc: mean score at the end; None where there is none.
    """

    name: str
    status: str
    runs: str
    acc: float | None = None

    def __float__(self) -> float:
        """What a sweeper that searches maximises.

        Raises:
            TypeError: there is no score; the search counts the job as failed.
        """
        if self.acc is None:
            raise TypeError(f"{self.name} {self.status} without a score")
        return self.acc


def _sweep(request: compose.Request) -> int:
    group = compose.swept(request).group or group_of(request.overrides)
    try:
        outcomes = compose.sweep(request, partial(_job, group=group))
    except Exception:  # a launcher that lost a job: what the others did is told all the same
        _report(_of_group(request, group))
        raise
    outcomes = outcomes or _of_group(request, group)
    _report(outcomes)
    failed = [outcome.name for outcome in outcomes if outcome.status == "failed"]
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def _report(outcomes: Sequence[Outcome]) -> None:
    from lifelong_ct.reporting.sweep import write_report

    for folder in sorted({outcome.runs for outcome in outcomes}):
        if Path(folder).is_dir():  # else its jobs have said why
            print(f"\ncomparison: {shown_path(write_report(Path(folder)), sys.stdout.isatty())}")


def _of_group(request: compose.Request, group: str) -> list[Outcome]:
    """What the run folders say of a sweep whose jobs could not tell."""
    from lifelong_ct.reporting.collecting import read_runs

    runs = Path(compose.swept(request).paths.runs)
    mine = [run for run in read_runs(runs) if run.info.get("group") == group] if runs.is_dir() else []
    return [Outcome(run.path.name, run.status, str(runs)) for run in mine]


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


def _job(config: DictConfig, group: str) -> Outcome:
    """One job of a sweep; its failure, or why it was refused, is told and leaves the others alone."""
    overrides = list(HydraConfig.get().overrides.task)
    if config.group is None:
        config.group = group
    runs = str(config.paths.runs)
    try:
        results = train(config, overrides)
    except LifelongCTError as error:
        status = "refused" if isinstance(error, Refused) else "failed"
        print(f"{'refused' if status == 'refused' else 'error'}: {error}\n", file=sys.stderr)
        return Outcome(_shown(overrides, config), status, runs)
    acc = (results.get("summary") or {}).get("acc")
    return Outcome(str(results["run"]["name"]), str(results["status"]), runs, acc)
