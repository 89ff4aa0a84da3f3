"""Dark experience replay: what the model said of a patch is kept beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from lifelong_ct.memory.parts import least_bytes, stacked
from lifelong_ct.memory.selection import SelectionPolicy
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.replay import Replay, coarse

_PARTS = ("x", "y", "logits")
_INT16 = (-32768, 32767)
_PER_LOGIT = 16
"""Steps of stored logits: their float16 noise does not compress, and would take more than the rest."""


class DER(Replay):
    """Replays patches of earlier hospitals with the logits that the model gave when it learnt from them.

    Buzzega et al., "Dark Experience for General Continual Learning", NeurIPS 2020 (arXiv 2004.07211): to the loss of the
    new batch DER adds α E ‖z - h(x)‖² over the memory, DER++ moreover β E ℓ(y, h(x)) (section 3), here of the same
    draw, as in Avalanche. ‖·‖² is the mean over voxels and channels, so that neither weighs (over channels in the
    authors' code as well, to which their α belongs), and y keeps the annotation protocol that it came with. A patch is
    offered as the training step saw it, augmented, with the logits of that very forward pass (its voxels are then
    rounded to `precision`), and replayed as it is stored. Only exemplars of earlier hospitals are replayed where the
    stream tells boundaries, as in `Replay`; else all, as the authors do.

    Of the logits `[C,D,H,W]` the mean over the channels of each voxel is taken off, which no softmax sees; then the mean
    over blocks of `stride`³ voxels is kept, rounded to sixteenths, as float16, compressed, in the budget of the patch. The
    same mean is taken of h(x). What is lost: the shape of a border inside a block, and 0.018 of a logit (RMS). C is the
    head's width of then: organs that came later are not distilled, and the mean is that of the C channels.

    Bytes: `memory.exemplars`, whatever the number of hospitals; the logits of a patch are 2 C / stride³ bytes per voxel
    before compression; at the defaults a quarter of its voxels after it, with ten channels.

    Args:
        selection: policy of the memory.
        alpha: α.
        beta: β; 0 for DER.
        stride: voxels per axis of the blocks in which logits are kept.
        exemplars_per_batch: patches of the memory per micro-batch.
        offer_every, window, precision: see `Replay`.
    """

    def __init__(
        self,
        selection: SelectionPolicy,
        alpha: float = 0.3,
        beta: float = 0.0,
        stride: int = 4,
        exemplars_per_batch: int = 1,
        offer_every: int = 1,
        window: Sequence[float] | None = None,
        precision: int = 1,
    ) -> None:
        super().__init__(selection, exemplars_per_batch, offer_every, window, precision)
        check_numbers(alpha=alpha, beta=beta)
        self.alpha, self.beta, self.stride = alpha, beta, whole(stride, "strategy.plugins.stride", 1)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """The micro-batch stays as it is: exemplars have a forward pass of their own."""
        self._due = self.due(strategy, _PARTS)
        if self._due:
            self.describer.watch(strategy.model)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Offers the new patches, then adds both terms to the undivided loss."""
        # where there is no present hospital to leave out, the new patches are left out by drawing before they come
        past = self.drawn(strategy) if self.context.present(strategy) is None else None
        if self._due:  # before the loss, since the describer looks at forward passes
            self.keep(strategy)
        past = self.drawn(strategy) if past is None else past
        if past:
            strategy.loss = strategy.loss + self.loss(strategy, past)

    def loss(self, strategy: Any, past: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """α and β times their terms, of exemplars."""
        # As they are stored. Augmented anew, a patch could be mirrored away from its logits.
        union = stacked([{name: parts[name] for name in ("x", "y")} for parts in past])
        x, y = union["x"].to(strategy.device), union["y"].to(strategy.device)
        logits = strategy.forward_with(strategy.model, x)
        kept = [parts["logits"].to(strategy.device) for parts in past]
        found = self.alpha * torch.stack([apart(*pair, self.stride) for pair in zip(logits, kept)]).mean()
        return found + self.beta * strategy._criterion(logits, y) if self.beta else found

    def least(self, kept: Sequence[int]) -> int:
        """With the logits of a head that has no more channels than now."""
        grid = (-(-n // self.stride) for n in kept)
        return least_bytes(kept, ((self.context.label_space.width, *grid), "float16"))

    def keep(self, strategy: Any) -> None:
        """Offers the micro-batch's new patches as the model saw them, augmented, with its answer to just these voxels."""
        origins = self.context.origins(strategy)
        new = slice(len(origins))  # other plugins' exemplars stand behind them
        x = strategy.mb_x[new].float().round().clamp(*_INT16).to(torch.int16).cpu()
        y, logits = strategy.mb_annotated[new].cpu(), dark(strategy.mb_output[new].detach(), self.stride)
        arrays = zip(coarse(x, self.window, self.precision), y, rounded(logits).cpu(), strict=True)
        parts = (dict(zip(_PARTS, each, strict=True)) for each in arrays)
        self.memory.offer_all(list(zip(parts, origins, self.describer(strategy, y), strict=True)))


def dark(logits: Tensor, stride: int) -> Tensor:
    """Logits without each voxel's mean over channels, averaged over blocks: float32 `[B,C,⌈D/stride⌉,…]`."""
    logits = logits.float()
    block = [min(stride, size) for size in logits.shape[2:]]
    return avg_pool3d(logits - logits.mean(1, keepdim=True), block, ceil_mode=True)


def rounded(logits: Tensor) -> Tensor:
    """Sixteenths as float16."""
    return (logits * _PER_LOGIT).round().div(_PER_LOGIT).to(torch.float16)


def apart(new: Tensor, kept: Tensor, stride: int) -> Tensor:
    """Mean over channels and blocks of (h(x) - z)².

    Args:
        new: logits of now `[C,D,H,W]`; channels after those that were kept are left out.
        kept: as `dark` made them of a head of then `[C_old,d,h,w]`.
        stride: of then.
    """
    return (dark(new[None, : len(kept)], stride)[0] - kept.float()).square().mean()
