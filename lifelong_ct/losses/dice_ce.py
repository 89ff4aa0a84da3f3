"""Dice + cross-entropy per sample, blind to what a case does not annotate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lifelong_ct.data.labels import IGNORE, LabelSpace


class PartialDiceCE(nn.Module):
    """The marginal loss of partially annotated segmentation.

    A voxel's code says which channels it may belong to (`LabelSpace.candidates`). The cross-entropy is
    that of the summed probability of these channels (marginal loss: Shi et al., Medical Image Analysis
    2021, arXiv 2007.03868, eq. 3), the mean over the sample's voxels that are not padding. The soft Dice
    (Milletari et al., 3DV 2016) is the mean over the organs with a labelled voxel in the sample; it leaves
    out the voxels that may be that organ and may be another. So an organ that nobody annotated is never
    taught to be background, and every sample weighs the same whatever the others annotate. Where an organ
    inside another was not annotated (a tumour in the liver), the outer one has its cross-entropy only.

    Args:
        label_space: decodes `y`; it may grow, the loss follows.
        dice_weight, ce_weight: factors of the two terms.
    """

    def __init__(self, label_space: LabelSpace, dice_weight: float = 1.0, ce_weight: float = 1.0) -> None:
        super().__init__()
        self.label_space = label_space
        self.dice_weight, self.ce_weight = dice_weight, ce_weight
        self._table: Tensor | None = None
        self._table_key: tuple[int, int, torch.device, type] | None = None

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean over the samples: logits float `[B,C,D,H,W]`, y codes `[B,1,D,H,W]` → scalar."""
        return self.per_sample(logits, y).mean()

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        """Loss of each sample `[B]`; 0 with a gradient where nothing was annotated."""
        logits = logits.float()
        codes = y[:, 0].long()
        allowed = self._candidates(logits)[codes].movedim(-1, 1)
        return self.ce_weight * self._cross_entropy(logits, allowed, codes) + self.dice_weight * self._dice(
            logits, allowed
        )

    @staticmethod
    def _cross_entropy(logits: Tensor, allowed: Tensor, codes: Tensor) -> Tensor:
        chosen = logits.masked_fill(~allowed, float("-inf")).logsumexp(1)
        valid = codes != IGNORE
        nll = torch.where(valid, logits.logsumexp(1) - chosen, 0.0)
        return nll.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)

    @staticmethod
    def _dice(logits: Tensor, allowed: Tensor) -> Tensor:
        certain = (allowed.sum(1, keepdim=True) == 1).flatten(2)
        may_be = allowed[:, 1:].flatten(2)
        target = may_be & certain
        probability = logits.softmax(1)[:, 1:].flatten(2)
        size = target.sum(2)
        overlap = (probability * target).sum(2)
        total = (probability * (certain | ~may_be)).sum(2) + size
        counted = (size > 0).to(logits.dtype)
        loss = 1 - 2 * overlap / total.clamp(min=1e-6)
        return (loss * counted).sum(1) / counted.sum(1).clamp(min=1)

    def _candidates(self, logits: Tensor) -> Tensor:
        key = (logits.shape[1], len(self.label_space.protocols), logits.device, type(logits))
        if self._table is None or self._table_key != key:
            table = torch.tensor(self.label_space.candidates(key[0]), device=key[2])
            if type(table) is not Tensor:  # a fake tensor belongs to its mode and must not outlive it
                return table
            self._table, self._table_key = table, key
        return self._table
