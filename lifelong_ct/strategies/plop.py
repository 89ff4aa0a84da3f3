"""PLOP: local pooled distillation of features, and pseudo-labels where the old model is certain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lifelong_ct.avalanche_bridge.plugin import StrategyContext
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.strategies.arguments import check_numbers, wholes
from lifelong_ct.strategies.completing import Completion
from lifelong_ct.strategies.pod import distance, windows
from lifelong_ct.strategies.taps import Taps, stage_ends
from lifelong_ct.strategies.teacher import TeacherPlugin, inside

_BINS = 1000


class PLOP(TeacherPlugin):
    """Keeps pooled features at several scales, and lets the old model label what it is certain of.

    Douillard et al., "PLOP: Learning without Forgetting for Continual Semantic Segmentation", CVPR 2021 (arXiv
    2011.11390), in 3D:

    - Local POD (section 3.2): 1/L Σ_l ‖Ψ(f_l) - Ψ(f_l of the old model)‖², with Ψ the strips along the three axes of
      the windows of each scale, of squared features as in the authors' code. A scale s has windows of an s-th of
      the training patch. The features of padding are left out. Divided by ‖Ψ(f_l of the old model)‖², so that neither
      patch size nor channels nor the scale of a layer weighs; so the authors' λ (0.01 of a norm, not of its square)
      does not carry over. Times their √(channels / new channels) where the head has grown. The logits, which they
      distil too, are left alone.
    - pseudo-labels (section 3.3): where nothing certain was annotated, the old model's likeliest channel c counts if
      its entropy, over log of its channels, is below the median of the voxels that it calls c, or below `certain`.
      Unlike the paper's, a voxel that is not certain keeps its marginal loss instead of being ignored, so the
      factor ν that makes up for ignored voxels has nothing to do and is left out. What was annotated stays
      (`LabelSpace.completed`).

    New rows of the head start as in MiB (`strategy=mib`) in the authors' code; here as the head draws them, unless
    MiB is in the list of plugins with `mib_lambda: 0`. Bytes: one copy of the model.

    Args:
        pod_lambda: weight of Local POD.
        scales: windows per axis of a training patch.
        certain: least threshold of the entropy, 0 to 1. The authors' is 0.001 of an entropy that their code divides
            by the channels and their log once more.
        patches: patches of the new experience from which the medians are found.
        layers: names of the modules that are distilled; None for the default: the last convolution or normalisation
            before each change of resolution.
    """

    def __init__(
        self,
        pod_lambda: float = 1.0,
        scales: Sequence[int] = (1, 2, 4),
        certain: float = 0.001,
        patches: int = 32,
        layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        check_numbers(pod_lambda=pod_lambda, certain=certain)
        if isinstance(layers, str):
            raise LifelongCTError(
                f"layers={layers!r}", "strategy.plugins.layers", "write a list of names, or null"
            )
        self.pod_lambda, self.certain = pod_lambda, certain
        self.scales = wholes(scales, "strategy.plugins.scales", 1)
        self.patches = whole(patches, "strategy.plugins.patches", 1)
        self.layers = None if layers is None else list(layers)
        self.limits: Tensor | None = None

    def bind(self, context: StrategyContext) -> None:
        super().bind(context)
        self.complete = Completion(context.label_space)
        there = dict(context.new_model().named_modules()) if self.layers else {}
        missing = [name for name in self.layers or () if name not in there]
        if missing:
            raise LifelongCTError(
                f"the network has no module {', '.join(missing)}",
                "strategy.plugins.layers",
                f"use names such as {', '.join(list(there)[-3:])}",
            )

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Finds the layers, and the median entropy of each old channel on the new hospital."""
        if self.teacher is None:
            return
        names = self.layers or stage_ends(self.teacher, (self.context.channels, *self.context.patch))
        self.student, self.source = Taps(names), Taps(names)
        self.limits = self._medians(strategy).clamp(min=self.certain)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Hooks the model for this forward pass."""
        if self.teacher is not None:
            self.student.open(strategy.model)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Asks the old model; completes the labels before the loss, and keeps the distance of the features."""
        if self.teacher is None:
            return
        new = self.student.close()
        self.source.open(self.teacher)
        logits = self.answer(strategy)
        old = self.source.close()
        told, entropy = opinion(logits)
        assert self.limits is not None
        sure = entropy < self.limits[told]
        strategy.mbatch[1] = self.complete(strategy.mb_y, told, sure, logits.shape[1])
        image = strategy.mb_x.shape[2:]
        seen = inside(strategy.mb_y)[:, None].float()
        apart = [
            distance(a[: len(b)], b, windows(a.shape[2:], self.context.patch, image, self.scales), seen)
            for a, b in zip(new, old, strict=True)  # replayed features may stand behind the new ones
        ]
        grown = strategy.mb_output.shape[1] - logits.shape[1]
        schedule = math.sqrt(strategy.mb_output.shape[1] / grown) if grown else 1.0
        self._pod = schedule * torch.stack(apart).mean()

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds λ times Local POD to the undivided loss."""
        if self.teacher is not None:
            strategy.loss = strategy.loss + self.pod_lambda * self._pod
            del self._pod

    @torch.no_grad()
    def _medians(self, strategy: Any) -> Tensor:
        assert self.teacher is not None
        width = self.teacher.head.width
        counts = torch.zeros(width, _BINS, device=strategy.device)
        for x, y in strategy.held_out_patches(self.patches):
            told, entropy = opinion(self.teacher(x))
            counts += histogram(told, entropy, self.complete.open(y), width)
        return medians(counts)


def opinion(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest channel, and the entropy over the log of the channels (0 certain, 1 clueless).

    Args:
        logits: `[B,C,D,H,W]`.

    Returns:
        int64 and float, `[B,D,H,W]`.
    """
    log_p = logits.float().log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1) / math.log(max(2, logits.shape[1]))
    return log_p.argmax(1), entropy


def histogram(told: Tensor, entropy: Tensor, counted: Tensor, width: int) -> Tensor:
    """How many voxels of each channel have which entropy: float `[width, bins]`, of the voxels that are `counted`."""
    bins = (entropy * _BINS).long().clamp(0, _BINS - 1)
    counts = torch.zeros(width * _BINS, device=told.device)
    counts.scatter_add_(0, (told * _BINS + bins).flatten(), counted.flatten().to(counts))
    return counts.view(width, _BINS)


def medians(counts: Tensor) -> Tensor:
    """Per channel the upper end of the bin that holds the median; 0 where the channel was never told."""
    reached = counts.cumsum(1) * 2 >= counts.sum(1, keepdim=True)
    first = reached.to(torch.uint8).argmax(1)
    return torch.where(counts.sum(1) > 0, (first + 1) / counts.shape[1], 0.0)
