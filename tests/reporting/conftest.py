"""A made-up run with numbers that can be checked by hand, told as `training.run` tells one."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix

# Dice after experience 0 … 3 (rows) on the hospitals a, b, c and d; d is never trained on.
# ACC = (.5 + .7 + .9) / 3 = .7                     BWT = ((.5 - .8) + (.7 - .8)) / 2 = -.2
# FWT = ((.4 - .1) + (.4 - .1)) / 2 = .3            forgetting = ((.8 - .5) + (.8 - .7)) / 2 = .2
# final mean = (.5 + .7 + .9 + .54) / 4 = .66       when learnt = (.8 + .8 + .9) / 3 = .8333
DICE = [
    [0.10, 0.10, 0.10, 0.05],
    [0.80, 0.40, 0.30, 0.35],
    [0.60, 0.80, 0.40, 0.45],
    [0.50, 0.70, 0.90, 0.54],
]


VOID = {"meta", "link", "img", "br", "wbr"}


class Page(HTMLParser):
    """Text, tags and addresses of a page; fails where tags do not close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(path.read_text())
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass
class MadeUpRun:
    """A run of three hospitals and five steps each. `play` tells its events to a reporter."""

    name: str = "toy-naive-s0-abcd1234"
    strategy: str = "naive"
    stream: str = "toy"
    seed: int = 0
    dice: list[list[float]] = field(default_factory=lambda: [list(row) for row in DICE])
    config: dict[str, Any] = field(default_factory=lambda: {"strategy": {"name": "naive"}, "seed": 0})
    synthetic: bool = True
    exemplars: int = 0
    first: int = 0
    """0: every row of the matrix; 3: the last only, as for joint training."""

    @property
    def run(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "strategy": self.strategy,
            "stream": self.stream,
            "seed": self.seed,
            "group": None,
            "config_hash": self.name[-8:],
            "synthetic": self.synthetic,
            "label_kinds": ["synthetic"] if self.synthetic else ["model"],
            "training_cases": 24 if self.synthetic else 3,
            "command": f"lifelong-ct strategy={self.strategy} seed={self.seed}",
        }

    def rows(self, after: int) -> list[EvaluationRow]:
        """Two cases that lie 0.05 to both sides of the mean, two organs: Dice; and an undefined distance."""
        return [
            EvaluationRow(after, hospital, f"{hospital}{case}", organ, metric, value)
            for hospital, mean in zip("abcd", self.dice[after], strict=True)
            for case, shift in ((1, -0.05), (2, 0.05))
            for organ, sign in (("liver", 1), ("spleen", -1))
            for metric, value in (("dice", mean + sign * shift), ("hd95", None))
        ]

    def matrix(self, upto: int = 3) -> ResultMatrix:
        done = range(self.first, upto + 1)
        return ResultMatrix(row for after in done for row in self.rows(after))

    def results(self, status: str = "running", upto: int = 3, error: str | None = None) -> dict[str, Any]:
        matrix = self.matrix(upto)
        first = max(self.first, 1)
        return {
            "schema": 1,
            "status": status,
            "run": self.run,
            "hospitals": ["a", "b", "c"],
            "unseen": ["d"],
            "organs": ["liver", "spleen"],
            "experiences": [
                {"after": i, "hospital": "abc"[i - 1], "steps": 5} for i in range(first, upto + 1)
            ],
            "scores": matrix.to_scores(),
            "summary": dict(matrix.summary(["a", "b", "c"])),
            "memory": {
                "ram": {"limit": 1 << 30, "peak": 300 << 20, "used": 200 << 20, "measured": 900 << 20},
                "disk": {"limit": None, "peak": 50 << 20, "used": 40 << 20},
                "gpu": {"limit": None, "peak": 0, "used": 0},
                "exemplars": {"limit": 4 << 20, "peak": 4 << 20, "used": self.exemplars},
            },
            "seconds": {"reading": 1.0, "training": 20.0, "evaluation": 4.0, "total": 25.0},
            "error": error,
        }

    def start(self, reporter: Any, done: int = 0) -> None:
        reporter.event(
            "run_started",
            run=self.run,
            hospitals=["a", "b", "c"],
            unseen=["d"],
            organs=["liver", "spleen"],
            experiences=3,
            total_steps=15,
            config=self.config,
            done=done,
            results=self.results(upto=done),
        )
        reporter.event("stage", text="reading a", done=8, total=8)

    def experience(self, reporter: Any, after: int) -> None:
        hospital = "abc"[after - 1]
        reporter.event("experience_started", after=after, hospital=hospital, steps=5, cases=8)
        for step in range(5):
            loss, lr = 1.0 / (after + step), 0.01 * (1 - step / 5)
            reporter.event("step", after=after, step=step, steps=5, loss=loss, lr=lr, seconds=0.5 * step)
        shown = {"matrix": self.matrix(after), "results": self.results(upto=after)}
        reporter.event("evaluated", after=after, rows=self.rows(after), **shown)
        reporter.event("experience_ended", after=after, hospital=hospital, **shown)

    def end(self, reporter: Any, status: str = "finished", upto: int = 3, error: str | None = None) -> None:
        results = self.results(status, upto, error)
        reporter.event("run_ended", status=status, matrix=self.matrix(upto), results=results, error=error)
        reporter.close(status)

    def play(self, reporter: Any) -> None:
        """From start to end."""
        self.start(reporter)
        matrix, results = self.matrix(0), self.results(upto=0)
        reporter.event("evaluated", after=0, rows=self.rows(0), matrix=matrix, results=results)
        for after in (1, 2, 3):
            self.experience(reporter, after)
        self.end(reporter)


@pytest.fixture(scope="session")
def made_up() -> type[MadeUpRun]:
    """The class; call it with what shall differ."""
    return MadeUpRun


@pytest.fixture(scope="session")
def parse() -> type[Page]:
    """Reads a page."""
    return Page
