"""Scores within an experience, which leave training as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.training.learner import Learner
from lifelong_ct.training.panel import Panel
from lifelong_ct.training.scoring import Scorer
from lifelong_ct.training.undoing import generators


class Within:
    """Scores the hospitals learnt so far, the present one too, every so many optimizer steps (`evaluation.within`).

    The last step of an experience is not scored here: its end is a row of the matrix. Weights and random draws of
    training are the same to the bit with and without.

    Args:
        every: optimizer steps; None for never.
        panel: which cases.
        scorer: scores them.
    """

    def __init__(self, every: int | None, panel: Panel, scorer: Scorer) -> None:
        self.every, self.panel, self.scorer = every, panel, scorer

    def due(self, step: int, steps: int) -> bool:
        """Whether to score after this step of so many."""
        return self.every is not None and step % self.every == 0 and step < steps

    def hospitals(self, after: int) -> list[Hospital]:
        """Those that will be scored within experience `after`."""
        return [] if self.every is None else self.panel.within(after)

    def score(self, learner: Learner, after: int, step: int) -> list[EvaluationRow]:
        """Scores the model as it is now, within experience `after`, after its optimizer step `step`."""
        with untouched():
            return self.scorer.score(learner.model, after, self.panel.within(after), step)


@contextmanager
def untouched() -> Iterator[None]:
    """Whatever is drawn meanwhile, the global generators go on as if nothing had been."""
    undos = generators()
    try:
        yield
    finally:
        for undo in undos:
            undo()
