"""What `results.json` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.evaluation.costs import costs
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.stability import stability
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.scoring import TOLD

SCHEMA = 1


class Results:
    """Collects the results of a run; `state_dict` survives a resume.

    Args:
        options: of the run.
        tasks: what each experience is scored on, in order; a hospital's name stands for all of its organs.
        ledger: limits and peaks.
    """

    def __init__(self, options: RunOptions, tasks: Sequence[Task | str], ledger: Ledger) -> None:
        self.options, self.tasks, self.ledger = options, list(tasks), ledger
        self.matrix = ResultMatrix()
        self.experiences: list[dict[str, Any]] = []
        self.seconds = {"reading": 0.0, "training": 0.0, "evaluation": 0.0}
        self.cpu_seconds = dict(self.seconds)
        self.anonymous_peak = self.device_peak = 0
        self.router: list[dict[str, Any]] = []
        self._peaks: dict[str, dict[str, int | None]] = {}

    def document(self, status: str, error: str | None = None) -> dict[str, Any]:
        """The content of `results.json`, JSON values only."""
        stream = self.options.stream
        return {
            "schema": SCHEMA,
            "status": status,
            "run": self.description(),
            "hospitals": [hospital.name for hospital in stream.hospitals],
            "unseen": [hospital.name for hospital in stream.unseen],
            "organs": list(stream.label_space.organs),
            "tasks": [
                {"name": e.name, "hospitals": list(e.task.hospitals), "organs": _listed(e.task.organs)}
                for e in stream.experiences
            ],
            "experiences": self.experiences,
            "scores": self.matrix.to_scores(),
            "summary": dict(self.matrix.summary(self.tasks)),
            "summary_per_organ": {
                organ: dict(self.matrix.summary(self.tasks, organ=organ)) for organ in self.matrix.organs
            },
            **self._within(),
            **self._routed(),
            "costs": dict(costs(self.experiences)),
            "memory": self.memory(),
            "seconds": {**self.seconds, "total": sum(self.seconds.values())},
            "cpu_seconds": {**self.cpu_seconds, "total": sum(self.cpu_seconds.values())},
            "evaluation_share": share(self.seconds),
            "skipped": self.skipped(),
            "error": error,
        }

    def routed(self, after: int, routing: Mapping[str, tuple[int, int]]) -> None:
        """How many cases of each hospital a router sent there after an experience: (right, all)."""
        self.router = [row for row in self.router if row["after"] != after]
        self.router += [
            {"after": after, "hospital": hospital, "right": right, "cases": cases}
            for hospital, (right, cases) in routing.items()
        ]

    def _within(self) -> dict[str, Any]:
        """Of a run that scores within experiences."""
        return {"stability": dict(stability(self.matrix, self.tasks))} if self.matrix.within else {}

    def _routed(self) -> dict[str, Any]:
        """Of a model with a router: the measures where it is told the hospital, and the router's share of cases that
        it sent to their own hospital, {after, hospital, right, cases} (see `Scorer.routing`), with `accuracy` at the end:
        None where there is no hospital to judge by."""
        if "dice" + TOLD not in self.matrix.metrics:
            return {}
        last = [row for row in self.router if row["after"] == self.matrix.last]
        cases = sum(row["cases"] for row in last)
        return {
            "summary_told": dict(self.matrix.summary(self.tasks, "dice" + TOLD)),
            "router": {
                "accuracy": sum(row["right"] for row in last) / cases if cases else None,
                "cases": self.router,
            },
        }

    def skipped(self) -> list[dict[str, str]]:
        """Cases that were left out (`data.on_bad=skip`), under pseudonyms."""
        stream, options = self.options.stream, self.options
        return [
            {
                "hospital": hospital.name,
                "case": "" if bad.case is None else options.identity.of(bad.case),
                "code": bad.code,
                "found": options.redact(
                    bad.error.what if bad.case else f"{bad.error.what}: {bad.error.where}"
                ),
            }
            for hospital in (*stream.hospitals, *stream.unseen)
            for bad in hospital.skipped
        ]

    def description(self) -> dict[str, Any]:
        """The `run` of `results.json`."""
        return {
            "name": self.options.name or self.options.folder.name,
            "strategy": self.options.strategy,
            "stream": self.options.stream.name,
            "seed": self.options.seed,
            "group": self.options.group,
            "config_hash": self.options.config_hash,
            "synthetic": self.options.stream.synthetic,
            "label_kinds": self.options.stream.label_kinds,
            "training_cases": sum(len(h.train) for h in self.options.stream.hospitals),
            "command": self.options.command,
            **({} if self.options.fitted is None else {"fitted": dict(self.options.fitted)}),
        }

    def memory(self) -> dict[str, dict[str, int | None]]:
        """Kind → limit, peak (reserved), used (stored), in bytes, over all sessions of the run. `measured`: for ram the
        process's peak of anonymous memory with interpreter and libraries; for gpu, on CUDA, the most that PyTorch held."""
        now = self.ledger.report()
        for kind, old in self._peaks.items():
            for key in ("peak", "used"):
                now[kind][key] = max(now[kind][key] or 0, old[key] or 0)
        now["ram"]["measured"] = self.anonymous_peak
        if self.device_peak:
            now["gpu"]["measured"] = self.device_peak
        return now

    def measured(self, peak: Mapping[str, int]) -> None:
        """What a GPU held at most, see `DevicePeaks.most`."""
        self.device_peak = max(self.device_peak, peak.get("reserved", 0))

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "matrix": self.matrix.state_dict(),
            "experiences": self.experiences,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "memory": self.memory(),
            "anonymous_peak": self.anonymous_peak,
            "device_peak": self.device_peak,
            "router": self.router,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict`."""
        self.matrix.load_state_dict(state["matrix"])
        self.experiences = list(state["experiences"])
        self.seconds = dict(state["seconds"])
        self.cpu_seconds = dict(state.get("cpu_seconds", self.cpu_seconds))
        self._peaks = {kind: dict(row) for kind, row in state["memory"].items()}
        self.anonymous_peak = state["anonymous_peak"]
        self.device_peak = state.get("device_peak", 0)
        self.router = list(state.get("router", []))


def share(seconds: Mapping[str, float]) -> float | None:
    """Evaluation's share of the time of a run; None before any."""
    total = sum(value for kind, value in seconds.items() if kind != "total")
    return seconds.get("evaluation", 0.0) / total if total else None


def _listed(organs: Sequence[str] | None) -> list[str] | None:
    return None if organs is None else list(organs)
