"""Learning without forgetting, per voxel."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.teacher import TeacherPlugin, mean_inside


class LwF(TeacherPlugin):
    """Keeps the answers of the old model on the new hospital's patches.

    Li & Hoiem, "Learning without Forgetting", TPAMI 2018 (arXiv 1606.09282), eq. 2-4: cross-entropy between
    the softened outputs of the old and the new model over the old channels, here the Kullback-Leibler
    divergence (equal up to a constant), times T² (Hinton et al., arXiv 1503.02531), and the mean over
    voxels (padding left out) instead of a sum, so that its weight does not depend on the patch size. The teacher is frozen
    and in eval mode. Bytes: one copy of the model.

    Args:
        lwf_lambda: weight of the distillation.
        temperature: T.
    """

    def __init__(self, lwf_lambda: float, temperature: float = 2.0) -> None:
        super().__init__()
        fix = "write a weight of at least 0 and a temperature above 0"
        check_numbers(fix, lwf_lambda=lwf_lambda)
        check_numbers(fix, positive=True, temperature=temperature)
        self.lwf_lambda, self.temperature = lwf_lambda, temperature

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds λ times the distillation loss to the undivided loss."""
        if self.teacher is None:
            return
        loss = distillation(strategy.mb_output, self.answer(strategy), self.temperature, strategy.mb_y)
        strategy.loss = strategy.loss + self.lwf_lambda * loss


def distillation(new: Tensor, old: Tensor, temperature: float, y: Tensor | None = None) -> Tensor:
    """T² KL(softmax(old/T) ‖ softmax(new/T)), the mean over batch and voxels.

    Args:
        new: logits `[B,C,D,H,W]`; channels after the old ones are left out.
        old: logits of the teacher `[B,C_old,D,H,W]`.
        temperature: T.
        y: codes, whose padding is left out; see `mean_inside`.
    """
    log_new = (new[:, : old.shape[1]].float() / temperature).log_softmax(1)
    log_old = (old.float() / temperature).log_softmax(1)
    return mean_inside((log_old.exp() * (log_old - log_new)).sum(1), y) * temperature**2
