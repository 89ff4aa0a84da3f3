"""Pseudo-labels of the old model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lifelong_ct.avalanche_bridge.plugin import StrategyContext
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.arguments import between
from lifelong_ct.strategies.completing import Completion
from lifelong_ct.strategies.teacher import TeacherPlugin

EXEMPLAR_LABELS = ("protocol", "pseudo")
"""What exemplars are trained with: what their hospital annotated, or that and the old model's pseudo-labels."""


class PseudoLabels(TeacherPlugin):
    """The old model labels the organs that the present case does not annotate.

    Zhang et al., "Continual Learning for Abdominal Multi-organ and Tumor Segmentation", MICCAI 2023 (arXiv
    2306.00988), section 2.1, the pseudo-labels alone (its text-driven heads are a model): they make good that a new
    hospital lacks the old organs. What was annotated is never overwritten: a pseudo-label counts only on a voxel
    whose organ is not certain, only for a channel that the annotation allows there, and only with a probability of at
    least `threshold`. Containment and protocols are those of `LabelSpace.completed`: inside a pseudo-labelled liver,
    a tumour that the old model did not know stays possible, and so do later organs. Bytes: one copy of the model.

    Args:
        threshold: least softmax probability of a pseudo-label; at least ½, so that it is the likeliest channel.
        exemplar_labels: `protocol` leaves replayed patches as their hospital annotated them; `pseudo` completes them
            too, with the organs that other hospitals have taught since. What is stored is the protocol either way.
    """

    def __init__(self, threshold: float = 0.5, exemplar_labels: str = "pseudo") -> None:
        super().__init__()
        if exemplar_labels not in EXEMPLAR_LABELS:
            raise LifelongCTError(
                f"exemplar_labels={exemplar_labels!r}",
                "strategy.plugins",
                f"use {' or '.join(EXEMPLAR_LABELS)}",
            )
        self.threshold = between(threshold, "strategy.plugins.threshold", 0.5, 1.0)
        self.exemplar_labels = exemplar_labels

    def bind(self, context: StrategyContext) -> None:
        super().bind(context)
        self.complete = Completion(context.label_space)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Completes the labels of the micro-batch, before its loss."""
        if self.teacher is None:
            return
        strategy.mbatch[1] = self.completed(strategy.mb_y, self.answer(strategy), strategy.mb_new)

    def completed(self, y: Tensor, logits: Tensor, new: int) -> Tensor:
        """Codes `[B,1,D,H,W]` with the pseudo-labels of the teacher's logits `[B,C_old,D,H,W]`; the samples after the
        first `new` are exemplars."""
        probability, told = logits.float().softmax(1).max(1)
        sure = probability >= self.threshold
        if self.exemplar_labels == "protocol":
            sure[new:] = False
        return self.complete(y, told, sure, logits.shape[1])
