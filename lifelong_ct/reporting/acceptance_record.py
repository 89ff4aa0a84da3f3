"""What `compare` leaves: an audit record, which says how the judgement was reached, and reads back the inputs."""

from __future__ import annotations

import math
import platform
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy
import scipy

from lifelong_ct import __version__
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import checksum
from lifelong_ct.evaluation.acceptance import Judgement
from lifelong_ct.evaluation.acceptance_cell import Cell
from lifelong_ct.evaluation.acceptance_rules import Rules
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.noninferiority import METHOD
from lifelong_ct.reporting.checking import check_cases
from lifelong_ct.reporting.run_folder import CASES, RESULTS, Run, read_run

SCHEMA = 1
_WHOLE = ("finished", "stopped")


@dataclass(frozen=True)
class Scored:
    """A model as `compare` knows it.

    Attributes:
        matrix: its scores.
        results: results.json; empty where only a table of cases was given.
        checksums: file → xxh3-128. File names are ours; the folder's is not told, it may be a patient's.
    """

    matrix: ResultMatrix
    results: dict[str, Any]
    checksums: dict[str, str]

    @property
    def info(self) -> dict[str, Any]:
        """`run` of results.json."""
        return dict(self.results.get("run") or {})

    @property
    def name(self) -> str:
        """Of the run, or what was given."""
        return str(self.info.get("name") or "a table of cases")


def read_scored(path: Path) -> Scored:
    """Of a run folder, or a cases.csv.

    Raises:
        LifelongCTError: neither, damaged, of a run that has not ended, or whose last scores are not those of its end.
    """
    if not path.is_dir():
        return Scored(ResultMatrix.read_cases_csv(path), {}, {CASES: _checksum(path)})
    files = {CASES: path / CASES}
    matrix, results = ResultMatrix.read_cases_csv(path / CASES), {}
    if (path / RESULTS).is_file():
        run = read_run(path)
        results, files = run.results, {**files, RESULTS: path / RESULTS}
        _ended(run)
        _unchanged(run)
        _scored_to_the_end(run)
    return Scored(matrix, results, {name: _checksum(file) for name, file in files.items()})


def _ended(run: Run) -> None:
    if run.status not in _WHOLE:
        raise LifelongCTError(
            f"the run is {run.status}",
            str(run.path),
            "compare runs that have ended: the same command goes on",
        )


def _unchanged(run: Run) -> None:
    differences, _ = check_cases(run)
    if differences:
        raise LifelongCTError(
            f"{CASES} is not the file that {RESULTS} was written with",
            str(run.path),
            "run lifelong-ct report --check; compare what the run has written itself",
        )


def _scored_to_the_end(run: Run) -> None:
    """Of a run that stops early the last scores may be older than the model, or of a few cases per hospital."""
    fix = "let the run finish, or score its model with `lifelong-ct evaluate` and compare the table that it writes"
    learnt = max((int(row["after"]) for row in run.results.get("experiences") or ()), default=None)
    last = run.matrix.last
    if learnt is not None and learnt != last:
        raise LifelongCTError(
            f"the model has learnt {learnt} experiences, its last scores are after {last}", str(run.path), fix
        )
    panel = (run.config.get("evaluation") or {}).get("panel")
    if run.status == "stopped" and panel is not None:
        few = [h for h in run.matrix.hospitals if len(run.matrix.scored(last, h)) >= int(panel)]
        if few:
            raise LifelongCTError(
                f"the run was stopped, and scored no more than {panel} cases of each hospital "
                f"(evaluation.panel): {', '.join(few)}",
                str(run.path),
                fix,
            )


def audit(old: Scored, new: Scored, rules: Rules, judgement: Judgement, rules_file: Path) -> dict[str, Any]:
    """JSON values: inputs with checksums, rules, versions, every number of every test, decision. No paths."""
    return {
        "schema": SCHEMA,
        "kind": "comparison",
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "decision": judgement.decision,
        "exit_code": judgement.exit_code,
        "old": _told(old),
        "new": _told(new),
        "rules": {"checksum": _checksum(rules_file), "content": dict(rules.told)},
        "method": METHOD,
        "cells": [_cell(cell) for cell in judgement.cells],
        "only_new": list(judgement.only_new),
        "versions": {
            "lifelong_ct": __version__,
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "scipy": scipy.__version__,
        },
    }


def _told(model: Scored) -> dict[str, Any]:
    keys = ("name", "strategy", "stream", "seed", "config_hash", "synthetic", "label_kinds", "training_cases")
    return {
        "checksums": model.checksums,
        "after": model.matrix.last,
        "run": {key: model.info[key] for key in keys if key in model.info},
    }


def _cell(cell: Cell) -> dict[str, Any]:
    """NaN is no JSON: None."""
    told = asdict(cell) | {"test": cell.test and cell.test._asdict()}
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in told.items()
    }


def _checksum(path: Path) -> str:
    try:
        return checksum(path)
    except OSError as error:
        raise LifelongCTError(f"cannot read: {error.strerror}", str(path), "check the path") from error
