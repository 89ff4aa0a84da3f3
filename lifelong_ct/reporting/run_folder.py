"""The run folder: everything a run leaves, and the source of truth for every report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import checksum, read_json, unwritable, write_json, write_text
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.reporting.environment import environment
from lifelong_ct.reporting.text import duration, measure, number
from lifelong_ct.reporting.train_log import TrainLog, TrainStep, read_train_csv

RESULTS, CASES, TRAIN, CONFIG, LOG = "results.json", "cases.csv", "train.csv", "config.yaml", "log.txt"
PAGE, FIGURES, ENVIRONMENT = "report.html", "figures", "environment.json"


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Attributes:
        path: of the folder.
        results: content of results.json.
        matrix: of cases.csv; empty where nothing was scored.
        steps: of train.csv.
        config: of config.yaml, redacted.
        environment: of environment.json; empty for runs that did not write it.
    """

    path: Path
    results: dict[str, Any]
    matrix: ResultMatrix = field(default_factory=ResultMatrix)
    steps: list[TrainStep] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def info(self) -> dict[str, Any]:
        """`run` of results.json: name, strategy, stream, seed, …"""
        return dict(self.results.get("run") or {})

    @property
    def status(self) -> str:
        """running, finished, stopped, failed, or refused: the method does not allow the scenario."""
        return str(self.results.get("status"))

    @property
    def trained(self) -> list[str]:
        """Hospitals that are trained on, in the order of the stream."""
        return list(self.results.get("hospitals") or [])

    @property
    def tasks(self) -> dict[str, Task]:
        """Name of each experience → what it is scored on, in order; a hospital each in runs that do not say."""
        told = self.results.get("tasks") or [{"name": name, "hospitals": [name]} for name in self.trained]
        return {
            str(task["name"]): Task(tuple(task["hospitals"]), _organs(task.get("organs"))) for task in told
        }

    @property
    def unseen(self) -> list[str]:
        """Hospitals that are scored, never trained on."""
        return list(self.results.get("unseen") or [])


def _organs(organs: list[str] | None) -> tuple[str, ...] | None:
    return None if organs is None else tuple(organs)


def read_run(path: Path) -> Run:
    """Reads a run folder, whatever its status.

    Raises:
        LifelongCTError: it is none, or one of its files is damaged.
    """
    if not (path / RESULTS).is_file():
        raise LifelongCTError(
            f"there is no {RESULTS}", str(path), "give a folder that `lifelong-ct train` made"
        )
    results = read_json(path / RESULTS)
    if (
        not isinstance(results, dict)
        or results.get("schema") != 1
        or not isinstance(results.get("run"), dict)
    ):
        raise LifelongCTError(
            f"{RESULTS} is not of schema 1", str(path), "read it with the version that wrote it"
        )
    matrix = ResultMatrix.read_cases_csv(path / CASES) if (path / CASES).exists() else ResultMatrix()
    return Run(
        path,
        results,
        matrix,
        read_train_csv(path / TRAIN),
        _read_config(path / CONFIG),
        read_json(path / ENVIRONMENT) if (path / ENVIRONMENT).exists() else {},
    )


class RunFolder:
    """Writes the run folder while the run goes.

    Args:
        path: of the folder.
        redact: removes what is private from a text.
    """

    essential = True

    def __init__(self, path: Path, redact: Callable[[str], str]) -> None:
        self.path, self.redact = path, redact
        self.train = TrainLog(path / TRAIN)
        self._experiences, self._started = 0, False

    def event(self, name: str, **data: Any) -> None:
        """Writes what an event brings; one that brings nothing for the folder is passed over."""
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None:
            handler(**data)

    def close(self, status: str) -> None:
        """The last lines reach their file."""
        self.train.flush()

    def _on_run_started(self, *, config: Mapping[str, Any], done: int, **data: Any) -> None:
        self._started, self._experiences = True, data["experiences"]
        if data.get("results"):
            self._write_results(data["results"])  # first: it says whose folder this is, whenever a kill comes
        shown = redacted(config, self.redact)
        write_text(self.path / CONFIG, yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
        write_json(self.path / ENVIRONMENT, environment((config.get("trainer") or {}).get("amp")))
        within = data.get("within")
        self.train.start(done, within)
        run, went_on = data["run"], f", going on after experience {done}" if done else ""
        if within:
            went_on = f", going on after step {within[1]} of experience {within[0]}"
        self._say(
            f"run {run['name']}: strategy {run['strategy']}, stream {run['stream']}, seed {run['seed']}{went_on}"
        )

    def _on_experience_started(self, *, after: int, hospital: str, steps: int, cases: int) -> None:
        self._say(f"experience {after} of {self._experiences}: {hospital}, {cases} cases, {steps} steps")

    def _on_step(self, *, after: int, step: int, loss: float, lr: float, seconds: float, **_: Any) -> None:
        self.train.append(TrainStep(after, step, loss, lr, seconds))

    def _on_saving(self) -> None:
        self.train.flush()  # a run that goes on from here has all lines before

    def _on_stage(self, *, text: str, done: int, total: int) -> None:
        if done == total:
            self._say(f"{text}: {total} done")

    def _on_note(self, *, text: str) -> None:
        self._say(text)

    def _on_evaluated(
        self, *, after: int, matrix: ResultMatrix, results: Mapping[str, Any], **_: Any
    ) -> None:
        self._write_matrix(matrix)
        self._write_results(results)
        scores = (f"{h} {number(matrix.value(after, h))}" for h in matrix.hospitals)
        self._say(f"scores after {after}: {', '.join(scores)}")

    def _on_experience_ended(
        self, *, after: int, hospital: str, results: Mapping[str, Any], **data: Any
    ) -> None:
        self.train.flush()
        self._write_matrix(data.get("matrix"))
        self._write_results(results)
        last = next((s for s in reversed(read_train_csv(self.path / TRAIN)) if s.experience == after), None)
        took = f" in {duration(last.seconds)}, last loss {number(last.loss)}" if last else ""
        self._say(f"experience {after} of {self._experiences} ended{took}: {hospital}")

    def _on_run_ended(
        self, *, status: str, results: Mapping[str, Any], error: str | None = None, matrix: Any = None
    ) -> None:
        self.train.flush()
        if self._started:
            self._write_matrix(matrix)
            self._write_results({**results, "error": error and self.redact(error)})
        else:
            self._write_results(self._failed_at_once(status, results, error))
        summary = results.get("summary") or {}
        told = ", ".join(
            f"{key} {measure(key, value)}" for key, value in summary.items() if value is not None
        )
        self._say(f"run {status}" + (f": {told}" if told else ""))
        if error:
            self._say(f"error: {error}")

    def _failed_at_once(self, status: str, results: Mapping[str, Any], error: str | None) -> dict[str, Any]:
        """What an earlier session of this run found stays when a later one cannot even begin."""
        earlier: dict[str, Any] = {}
        if (self.path / RESULTS).is_file():
            earlier = read_json(self.path / RESULTS)
        same = earlier.get("run", {}).get("config_hash") == results.get("run", {}).get("config_hash")
        kept = earlier if same and earlier.get("scores") else results
        return {**kept, "status": status, "error": error and self.redact(error)}

    def _write_matrix(self, matrix: ResultMatrix | None) -> None:
        if matrix is not None:
            matrix.write_cases_csv(self.path / CASES)

    def _write_results(self, results: Mapping[str, Any]) -> None:
        """With the checksum of cases.csv, so that `report --check` can name an edit of either."""
        cases = self.path / CASES
        sums = {"xxh3": {CASES: checksum(cases)}} if cases.is_file() else {}
        write_json(self.path / RESULTS, {**results, **sums})

    def _say(self, text: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {self.redact(text)}\n"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with open(self.path / LOG, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise unwritable(self.path / LOG, error) from error


def redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """Plain dicts and lists with every text redacted, keys too."""
    if isinstance(value, Mapping):
        return {redact(key) if isinstance(key, str) else key: redacted(v, redact) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item, redact) for item in value]
    return redact(value) if isinstance(value, str) else value


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LifelongCTError(f"not YAML: {error}", str(path), "restore or delete the file") from error
    return config if isinstance(config, dict) else {}
