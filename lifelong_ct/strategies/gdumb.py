"""GDumb: a greedy sampler and a dumb learner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

from lifelong_ct.core.protocols import Batch
from lifelong_ct.core.seeding import generator
from lifelong_ct.memory.exemplars import ExemplarMemory, Origin
from lifelong_ct.memory.parts import stacked
from lifelong_ct.memory.selection import Description, SelectionPolicy
from lifelong_ct.strategies.arguments import check_needs
from lifelong_ct.strategies.replay import Replay, coarse


class GDumb(Replay):
    """Forgets everything but its memory, and learns that anew in each experience.

    Prabhu et al., "GDumb: A Simple Approach that Questions Our Progress in Continual Learning", ECCV 2020: a sampler
    keeps the groups of the memory balanced (algorithm 1, see `GreedyBalanced`), and a new model is trained on the
    memory alone. The new model comes from `requires.reinitialise`. At the start of an experience the patches that
    naive training would see in its optimizer steps are read once and offered; then the memory takes the place of the
    experience as the source of patches, each batch drawn with replacement and equal right.

    Optimizer steps: as many per experience as naive training makes, with the optimizer and the schedule of the run
    (the paper has SGD with cosine steps and CutMix). So each model that is scored has had the steps of one experience,
    however many have come, where naive training has had those of all. Reading: as naive training.

    A hospital whose patches may not be kept teaches nothing once the memory holds others; while it holds none, the
    model is trained on the hospital itself. Bytes: `memory.exemplars`, whatever the number of hospitals.

    Args:
        selection: policy of the memory.
        window, precision: see `Replay`.
    """

    def __init__(
        self, selection: SelectionPolicy, window: Sequence[float] | None = None, precision: int = 1
    ) -> None:
        super().__init__(selection, window=window, precision=precision)
        check_needs(
            selection,
            {"offered", "organs"},
            "and GDumb's memory is filled before there is a model",
            "use greedy_balanced, reservoir, hospital_balanced or organ_balanced",
        )

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Fills the memory, and makes it what is trained on."""
        clock, k = strategy.clock, strategy.accumulate
        hospital = self.context.hospitals[clock.train_exp_counter]
        if self.memory.allows(hospital, ("x", "y")):
            for n, batch in enumerate(strategy.source.batches(0, strategy.steps * k)):
                size = len(batch.cases)
                strategy.drawn += size
                self._offer(
                    batch, hospital, [clock.train_iterations + (n + i / size) / k for i in range(size)]
                )
        if len(self.memory):
            keys = (self.context.seed, "gdumb", clock.train_exp_counter)
            strategy.source = FromMemory(self.memory, strategy.train_mb_size, keys)

    def _offer(self, batch: Batch, hospital: str, when: Sequence[float]) -> None:
        """Offers a batch that naive training would see; `when`, in its optimizer steps."""
        patients, corners = batch.patients or repeat(""), batch.corners or repeat(None)
        origins = [Origin(hospital, *told) for told in zip(batch.cases, patients, corners)]
        x, organs = coarse(batch.x, self.window, self.precision), self.describer.organs(batch.y)
        said = [Description(shown, {"offered": at}) for shown, at in zip(organs, when, strict=True)]
        offers = zip(x, batch.y, origins, said, strict=True)
        self.memory.offer_all([({"x": a, "y": b}, origin, told) for a, b, origin, told in offers])

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """The micro-batch is of the memory already."""


class FromMemory:
    """A source of patches that are drawn from a memory, with replacement and equal right.

    Args:
        memory: not empty, and not offered anything meanwhile.
        batch_size: patches per batch.
        keys: of every draw, with the number of the batch.
    """

    def __init__(self, memory: ExemplarMemory, batch_size: int, keys: tuple[str | int, ...]) -> None:
        self.memory, self.batch_size, self.keys = memory, batch_size, keys

    def batch(self, step: int) -> Batch:
        """See `PatchSource`."""
        drawn = self.memory.draw(self.batch_size, generator(*self.keys, step))
        parts, origins = stacked([parts for _, parts in drawn]), [exemplar.origin for exemplar, _ in drawn]
        cases, patients = [o.case for o in origins], [o.patient for o in origins]
        return Batch(parts["x"], parts["y"], cases, patients, replayed=True)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """See `PatchSource`."""
        return map(self.batch, range(start, stop))
