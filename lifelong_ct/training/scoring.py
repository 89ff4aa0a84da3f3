"""Scores of the present model on the test cases of hospitals, on each case's own grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lifelong_ct.core.identity import Identity
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.core.types import Case, EvaluationRow
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.cases import score_case
from lifelong_ct.evaluation.inference import predict_labels
from lifelong_ct.evaluation.mirroring import Mirroring
from lifelong_ct.evaluation.resample import to_model, to_scan, upright_shape
from lifelong_ct.models.parts import PartedModel
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.training.options import EvaluationOptions
from lifelong_ct.training.planner import EVALUATION, evaluation_bytes

TOLD = "_told"
"""Ends the name of a metric of predictions by a model that was told the hospital."""
Scores = list[tuple[str, str, float | None]]


@dataclass(frozen=True)
class Scored:
    """A case at the moment of its scores, for who wants to look at it; nothing of it is kept here.

    Attributes:
        raw: image and reference on the case's own grid.
        prediction: channel ids `[D,H,W]` on the same grid.
        channels: organ → its id in `prediction`.
        scores: (organ, metric, value) of the prediction.
    """

    raw: RawCase
    prediction: npt.NDArray[np.uint8]
    channels: Mapping[str, int]
    scores: Scores


def told_routing(routing: Mapping[str, tuple[int, int]]) -> str:
    """`Scorer.routing` as people read it."""
    right, cases = (sum(numbers) for numbers in zip(*routing.values(), strict=True))
    return f"routed to their own hospital: {right} of {cases} cases"


def mirroring_of(options: EvaluationOptions, organs: Sequence[str]) -> Mirroring | None:
    """What mirrors the windows of a model with these organs, where `evaluation.mirror` asks for it.

    Raises:
        LifelongCTError: they cannot be mirrored.
    """
    return Mirroring(options.mirror, organs) if options.mirror else None


class Scorer:
    """Predicts and scores, one case in memory at a time.

    A model with a router is scored twice: as it is, and told the hospital of the case (metrics that end in `TOLD`). The
    one of a hospital that it has not learnt is not told.

    Args:
        options: metrics and sliding window.
        spacing: mm per axis that the model was trained on; None for each scan's own.
        label_space: organs and their channels.
        native: a case on its own grid.
        identity: makes pseudonyms.
        ledger: asked for the memory of each case.
        device: of the model.
        amp: autocast type.
        progress: told `(text, done, total)`.
        ranks: processes that score together, each some of the cases; all of them get all scores.

    Attributes:
        routing: hospital → cases of the last `score` that were routed to it, and its cases; of hospitals with one part,
            where there is another that they could be mistaken for.
        watch: shown each case, as (hospital, pseudonym, `Scored`); nobody where None.
    """

    def __init__(
        self,
        options: EvaluationOptions,
        *,
        spacing: Sequence[float] | None,
        label_space: LabelSpace,
        native: Callable[[Hospital, Case], RawCase],
        identity: Identity,
        ledger: Ledger,
        device: torch.device,
        amp: torch.dtype | None = None,
        progress: Callable[[str, int, int], None] = lambda text, done, total: None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.options, self.spacing, self.label_space = options, spacing, label_space
        self.native, self.identity, self.ledger = native, identity, ledger
        self.device, self.amp, self.progress = device, amp, progress
        self.routing: dict[str, tuple[int, int]] = {}
        self.watch: Callable[[Hospital, str, Scored], None] | None = None
        self._mirroring: Mirroring | None = None

    def score(
        self, model: nn.Module, after: int, hospitals: Sequence[Hospital], step: int | None = None
    ) -> list[EvaluationRow]:
        """Every metric of every annotated organ of every test case; `step`: see `EvaluationRow`."""
        every = [(hospital, case) for hospital in hospitals for case in hospital.test]
        cases = every[self.ranks.rank :: self.ranks.size]
        of_cases: list[list[EvaluationRow]] = []
        self.routing = {}
        self._mirroring = mirroring_of(self.options, self.label_space.channels)
        for done, (hospital, case) in enumerate(cases, start=1):
            pseudonym = self.identity.of(case)
            patient = self.identity.of_patient(hospital.name, case.patient)
            show = None if self.watch is None else partial(self.watch, hospital, pseudonym)
            of_cases.append(
                [
                    EvaluationRow(
                        after, hospital.name, pseudonym, organ, metric, value, patient, case.label_kind, step
                    )
                    for organ, metric, value in self._score_case(
                        model, self.native(hospital, case), hospital.name, show
                    )
                ]
            )
            self.progress("evaluating", done, len(cases))
        return self._of_all(of_cases, len(every))

    def _of_all(self, own: list[list[EvaluationRow]], cases: int) -> list[EvaluationRow]:
        """The rows of all ranks in the order of the cases; likewise what was routed."""
        rows, routing = zip(*self.ranks.gather((own, self.routing)), strict=True)
        hospitals = dict.fromkeys(hospital for part in routing for hospital in part)
        pairs = {name: [part[name] for part in routing if name in part] for name in hospitals}
        self.routing = {name: (sum(r for r, _ in p), sum(n for _, n in p)) for name, p in pairs.items()}
        return [row for i in range(cases) for row in rows[i % len(rows)][i // len(rows)]]

    def _score_case(
        self, model: nn.Module, raw: RawCase, hospital: str, show: Callable[[Scored], None] | None = None
    ) -> Scores:
        width = len(self.label_space.channels) + 1
        channels = raw.image.size // math.prod(raw.shape)
        shape = upright_shape(raw.shape, raw.affine, self.spacing)
        need = evaluation_bytes(shape, raw.shape, channels, width, self.options)
        with self.ledger.reserve("ram", EVALUATION, need):
            ready = to_model(raw, self.spacing)
            image = ready.image if ready.image.ndim == 4 else ready.image[None]

            def scores(ranking: Sequence[int] | None, show: Callable[[Scored], None] | None) -> Scores:
                given = (self.options.roi, self.options.overlap, self.device, self.amp, 1, ranking)
                predicted = predict_labels(
                    model, image, *given, precision=self.options.precision, mirroring=self._mirroring
                )
                native = to_scan(predicted, ready, raw)
                channels = {organ: i for i, organ in enumerate(self.label_space.channels, start=1)}
                found = score_case(native, raw, channels, raw.spacing, self.options.metrics)
                if show is not None:
                    show(Scored(raw, native, channels, found))
                return found

            if not (isinstance(model, PartedModel) and model.routes):
                return scores(None, show)
            found, told = (model.route(torch.as_tensor(image), name) for name in (None, hospital))
            self._count(model, hospital, found)
            first = scores(found, show)
            second = first if model.owners(told) == model.owners(found) else scores(told, None)
            return first + [(organ, metric + TOLD, value) for organ, metric, value in second]

    def _count(self, model: PartedModel, hospital: str, ranking: Sequence[int]) -> None:
        """Whether the router was right, of a hospital that it knows and that has one part: of those with several, as in
        a stream of classes, nobody can say which one is right."""
        own = [part for part, each in enumerate(model.learnt) if each.hospital == hospital]
        known = {each.hospital for each in model.learnt if each.routed}
        if len(own) == 1 and hospital in known and len(known) > 1:
            right, cases = self.routing.get(hospital, (0, 0))
            self.routing[hospital] = (right + (ranking[0] == own[0]), cases + 1)
