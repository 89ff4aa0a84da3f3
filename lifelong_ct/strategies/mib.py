"""Modelling the background."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.teacher import TeacherPlugin, folded, heirs, mean_inside


class MiB(TeacherPlugin):
    """Distils what the old model said, knowing that its background may hold the new organs.

    Cermelli et al., "Modeling the Background for Incremental Learning in Semantic Segmentation", CVPR 2020 (arXiv
    2002.00718). Its three parts:

    - unbiased cross-entropy, section 3.2: the probability of background becomes that of background or any old organ.
      That is the cross-entropy of `PartialDiceCE` (`loss=dice_ce`) where a hospital annotates the new organs only, and
      its generalisation where it annotates others, so nothing is added here. With `loss=background` this part is off.
    - unbiased distillation, likewise: -1/|I| Σ_i Σ_c q_old(i, c) log q̂(i, c), where q̂ of background is the summed
      probability of background and the new organs; i are voxels that are no padding. Divided by the number of old channels as in the authors' code,
      to which their λ belongs. A new organ inside an old one (a tumour of the liver) is summed into that.
    - initialisation of the new rows, eq. 8-9: the weights of background and its bias - log(1 + number of new organs),
      background's own bias likewise (authors' code), so that the new model starts with the old one's answers. New
      organs inside an old one share its row in the same way.

    The paper's loss is cross-entropy alone: `loss.dice_weight=0`. Bytes: one copy of the model.

    Args:
        mib_lambda: λ, weight of the distillation.
        initialise: whether new rows start from the old ones (eq. 8-9).
    """

    def __init__(self, mib_lambda: float = 10.0, initialise: bool = True) -> None:
        super().__init__()
        check_numbers(mib_lambda=mib_lambda)
        self.mib_lambda, self.initialise = mib_lambda, initialise
        self._groups: list[list[int]] = []

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Gives the rows that the head has grown their start; a new hospital without new organs changes nothing."""
        if self.teacher is None:
            return
        head = strategy.model.head
        self._groups = heirs(self.context.label_space, self.teacher.head.width, head.width)
        if self.initialise:
            share_rows(head, self._groups)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds λ times the distillation to the undivided loss."""
        if self.teacher is None:
            return
        old = self.answer(strategy)
        loss = unbiased_distillation(strategy.mb_output, old, self._groups, strategy.mb_y)
        strategy.loss = strategy.loss + self.mib_lambda * loss


def unbiased_distillation(
    new: Tensor, old: Tensor, groups: list[list[int]], y: Tensor | None = None
) -> Tensor:
    """Eq. 5-6 over the number of old channels; the mean over batch and voxels.

    Args:
        new: logits `[B,C,D,H,W]`.
        old: logits of the teacher `[B,C_old,D,H,W]`.
        groups: see `heirs`.
        y: codes, whose padding is left out; see `mean_inside`.
    """
    log_q = folded(new.float().log_softmax(1), groups)
    return -mean_inside((old.float().softmax(1) * log_q).sum(1), y) / old.shape[1]


@torch.no_grad()
def share_rows(head: nn.Module, groups: list[list[int]]) -> None:
    """Eq. 8-9 in place: all channels of a group get the row of the first, and its bias minus the log of their number,
    so that their probabilities sum to what the first one had."""
    weight, bias = head.weight, head.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    for group in groups:
        if len(group) > 1:
            weight[group] = weight[group[0]].clone()
            bias[group] = bias[group[0]] - math.log(len(group))
