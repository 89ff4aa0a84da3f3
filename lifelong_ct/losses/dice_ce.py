"""Dice + cross-entropy per sample, blind to what a case does not annotate.

Letters of shapes: B sample, C channel, K channel without the background, V voxel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import IGNORE, LabelSpace

NO, YES, MAYBE = 0, 1, 2
"""Whether a voxel belongs to a channel."""
UNANNOTATED = ("marginal", "background", "ignore")
"""How a voxel is read that may belong to several channels."""


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
        unannotated: what a voxel counts as that may be several channels. `marginal`: any of them, as above.
            `background`: background, or the organ that it is labelled with: the naive reading, which teaches that
            the organs of other hospitals are not there (background shift: Cermelli et al., CVPR 2020). `ignore`:
            nothing, as padding; a case without one certain voxel of background then teaches organs only.

    Raises:
        LifelongCTError: another word for `unannotated`.
    """

    def __init__(
        self,
        label_space: LabelSpace,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        unannotated: str = "marginal",
    ) -> None:
        super().__init__()
        if unannotated not in UNANNOTATED:
            raise LifelongCTError(
                f"unannotated={unannotated!r}", "loss.unannotated", f"use {', '.join(UNANNOTATED)}"
            )
        self.label_space, self.unannotated = label_space, unannotated
        self.dice_weight, self.ce_weight = dice_weight, ce_weight
        self._table: Tensor | None = None
        self._table_key: tuple[int, int, torch.device, type] | None = None

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean over the samples: logits float `[B,C,D,H,W]`, y codes `[B,1,D,H,W]` → scalar."""
        return self.per_sample(logits, y).mean()

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        """Loss of each sample `[B]`; 0 with a gradient where nothing was annotated."""
        codes_BV = y.flatten(1).long()
        kind_of_code = self._kinds(logits)
        kind_BCV = kind_of_code[codes_BV].movedim(2, 1).contiguous()
        open_BV = ((kind_of_code == MAYBE).sum(1) == logits.shape[1])[codes_BV]
        log_p_BCV = logits.float().flatten(2).log_softmax(1)
        nll_BV = torch.where(open_BV, 0.0, self._nll(log_p_BCV, kind_BCV))
        counted_BV = ~open_BV if self.unannotated == "ignore" else codes_BV != IGNORE
        ce = nll_BV.sum(1) / counted_BV.sum(1).clamp(min=1)
        return self.ce_weight * ce + self.dice_weight * self._dice(log_p_BCV[:, 1:].exp(), kind_BCV[:, 1:])

    @staticmethod
    def _nll(log_p_BCV: Tensor, kind_BCV: Tensor) -> Tensor:
        return -log_p_BCV.masked_fill(kind_BCV == NO, float("-inf")).logsumexp(1)

    @staticmethod
    def _dice(p_BKV: Tensor, kind_BKV: Tensor) -> Tensor:
        target_BKV, known_BKV = (kind_BKV == YES).to(p_BKV), (kind_BKV != MAYBE).to(p_BKV)
        size_BK = target_BKV.sum(2)
        overlap_BK = torch.einsum("bkv,bkv->bk", p_BKV, target_BKV)
        total_BK = torch.einsum("bkv,bkv->bk", p_BKV, known_BKV) + size_BK
        shown_BK = (size_BK > 0).to(p_BKV)
        loss_BK = (1 - 2 * overlap_BK / total_BK.clamp(min=1e-6)) * shown_BK
        return loss_BK.sum(1) / shown_BK.sum(1).clamp(min=1)

    def _kinds(self, logits: Tensor) -> Tensor:
        """NO, YES or MAYBE for every code and channel, `[codes, C]`."""
        key = (logits.shape[1], len(self.label_space.protocols), logits.device, type(logits))
        if self._table is None or self._table_key != key:
            allowed = torch.tensor(self._allowed(key[0]), device=key[2])
            several = allowed.sum(1, keepdim=True) > 1
            table = allowed.to(torch.uint8) + (allowed & several)
            if type(table) is not Tensor:  # a fake tensor belongs to its mode and must not outlive it
                return table
            self._table, self._table_key = table, key
        return self._table

    def _allowed(self, width: int) -> np.ndarray:
        """`LabelSpace.candidates`, as `unannotated` reads them."""
        allowed = self.label_space.candidates(width)
        several = allowed.sum(1) > 1
        if self.unannotated == "ignore":
            allowed[several] = True
        elif self.unannotated == "background":
            several &= (channel := self.label_space.literal()) >= 0
            allowed[several] = np.arange(width) == channel[several, None]
        return allowed
