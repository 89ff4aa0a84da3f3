"""What reporters hear of a run.

Events: run_started, experience_started, stage, step, saving, note, scored, evaluated, experience_ended, run_ended; their
fields stand where they are sent, here or in `training.run`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.host_memory import anonymous_rss
from lifelong_ct.core.protocols import Reporter
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.training.device_peaks import DevicePeaks
from lifelong_ct.training.learner import StepReport
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.results import Results
from lifelong_ct.training.rounds import Round
from lifelong_ct.training.scoring import Scored


class Teller:
    """Speaks to the reporters of a run, and measures what it tells.

    Args:
        options: of the run.
        reporter: receives the events.
        results: what was found so far.
        peaks: asked for the GPU's memory; without, nothing is measured there.

    Attributes:
        peak: anonymous memory since the last experience began, at most.
        peaks: of the GPU, per kind of work.
    """

    def __init__(
        self, options: RunOptions, reporter: Reporter, results: Results, peaks: DevicePeaks | None = None
    ) -> None:
        self.options, self.reporter, self.results = options, reporter, results
        self.peaks = peaks or DevicePeaks(None)
        self.peak, self._began = 0, 0.0
        self._open: list[str] = []
        self._mark = (0.0, 0.0)
        self._row: Round | None = None

    def start(
        self,
        rounds: Sequence[Round],
        plugins: Iterable[StrategyPlugin],
        done: int,
        within: tuple[int, int] | None = None,
    ) -> None:
        """The run goes on after `done` experiences, and `within` another one: its number, and its steps so far."""
        stream = self.options.stream
        self.reporter.event(
            "run_started",
            run=self.results.description(),
            hospitals=[h.name for h in stream.hospitals],
            unseen=[h.name for h in stream.unseen],
            organs=list(stream.label_space.organs),
            experiences=len(rounds),
            total_steps=sum(row.steps for row in rounds),
            config=self.options.config,
            done=done,
            within=within,
            results=self.results.document("running"),
        )
        if self.options.data.schedule == "one_pass":
            self.note(
                "one pass: each case is read once; the steps follow from the cases, not from trainer.steps"
            )
        if self.options.fitted is not None:
            changes = " ".join(self.options.fitted["overrides"]) or "nothing had to change"
            self.note(f"memory.gpu=fit: {changes}; the effective batch is the one asked for")
        for row in self.results.skipped():
            case = f"case {row['case']}" if row["case"] else "a case"
            self.note(f"{case} of {row['hospital']} is skipped ({row['code']}): {row['found']}")
        for plugin in plugins:
            lost: list[str] = getattr(plugin, "lost_on_resume", list)()
            if lost:
                self.note(f"this run cannot resume: the strategy keeps {', '.join(lost)}")

    def experience(self, row: Round, cases: int) -> None:
        """Training begins."""
        self._row, self._began = row, time.monotonic()
        self.reporter.event(
            "experience_started", after=row.after, hospital=row.name, steps=row.steps, cases=cases
        )

    def saving(self) -> dict[str, Any]:
        """A checkpoint is about to be written within an experience; what `went_on` needs."""
        self._settle()
        self.reporter.event("saving")
        return {"peak": self.peak, "seconds": time.monotonic() - self._began}

    def went_on(self, told: Mapping[str, Any]) -> None:
        """The experience goes on from where `saving` told this."""
        self.peak, self._began = int(told["peak"]), time.monotonic() - float(told["seconds"])

    def step(self, report: StepReport) -> None:
        """One optimizer step is done."""
        assert self._row is not None
        self.peak = max(self.peak, anonymous_rss())
        self.results.anonymous_peak = max(self.results.anonymous_peak, self.peak)
        self.reporter.event(
            "step",
            after=self._row.after,
            step=report.step,
            steps=self._row.steps,
            loss=report.loss,
            lr=report.lr,
            seconds=time.monotonic() - self._began,
        )

    def scored(self, hospital: Hospital, case: str, scored: Scored) -> None:
        """A case of the last evaluation, voxels and all; of a hospital that does not share its voxels, nothing."""
        if not hospital.private:
            self.reporter.event("scored", hospital=hospital.name, case=case, scored=scored)

    def evaluated(self, after: int, rows: Any) -> None:
        """Scores after an experience, which the results have already."""
        document = self.results.document("running")
        self.reporter.event("evaluated", after=after, rows=rows, matrix=self.results.matrix, results=document)

    def ended(self, row: Round) -> None:
        """An experience is trained and scored."""
        document = self.results.document("running")
        self.reporter.event(
            "experience_ended",
            after=row.after,
            hospital=row.name,
            matrix=self.results.matrix,
            results=document,
        )

    def end(self, status: str, error: str | None = None) -> dict[str, Any]:
        """The run is over; its results."""
        document = self.results.document(status, error)
        self.reporter.event(
            "run_ended", status=status, matrix=self.results.matrix, results=document, error=error
        )
        self.reporter.close(status)
        return document

    def broke(self, error: BaseException) -> None:
        """The run is over because of an error."""
        if isinstance(error, KeyboardInterrupt):
            self.end("stopped", "interrupted; the same command goes on from the last checkpoint")
            return
        text = str(error) if isinstance(error, LifelongCTError) else f"{type(error).__name__}: {error}"
        self.end("failed", self.options.redact(text))

    def stage(self, text: str, done: int, total: int) -> None:
        """Something that takes a while."""
        self.reporter.event("stage", text=text, done=done, total=total)

    def note(self, text: str) -> None:
        """What a user should know."""
        self.reporter.event("note", text=self.options.redact(text))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Adds up the seconds of a kind of work, by the clock and of processors; work within other work counts once."""
        start = time.monotonic()
        self._settle()
        self._open.append(what)
        try:
            with self.peaks.during(what):
                yield
        finally:
            self.results.measured(self.peaks.most)
            self._settle()
            self._open.pop()
            if what == "evaluation" and self._open:
                self._began += time.monotonic() - start  # the seconds of a step are those of training

    def _settle(self) -> None:
        """The seconds until now are those of the innermost work."""
        now = time.monotonic(), time.process_time()
        if self._open:
            self.results.seconds[self._open[-1]] += now[0] - self._mark[0]
            self.results.cpu_seconds[self._open[-1]] += now[1] - self._mark[1]
        self._mark = now
