"""Memory aware synapses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lifelong_ct.data.labels import IGNORE
from lifelong_ct.memory.selection.arguments import between, whole
from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.quadratic import QuadraticPenalty, blend
from lifelong_ct.strategies.sensitivity import magnitudes, mean_over_patches


class MAS(QuadraticPenalty):
    """Holds weights near their old values, the more the output depends on them; needs no labels.

    Aljundi et al., "Memory Aware Synapses", ECCV 2018 (arXiv 1711.09601): penalty λ Σ Ω (θ - θ*)² (eq. 3), Ω the
    mean over patches of |∂ ‖F(x)‖² / ∂θ| (eq. 2 with the squared norm of section 4.1). ‖F(x)‖² is the mean over
    the voxels of a patch, without padding, of the squared norm of a voxel's logits, so that Ω does not depend on
    the patch size. Importances of experiences are summed, as in the authors' code. Bytes: two copies of the
    parameters, whatever the number of hospitals.

    Args:
        mas_lambda: λ.
        alpha: None for the sum, else Ω ← α Ω + (1 - α) Ω_new, which does not grow with the number of hospitals.
        patches: patches of the experience that estimate Ω_new.
        precision: of Ω, see `QuadraticPenalty`.
    """

    title = "MAS"

    def __init__(
        self, mas_lambda: float, alpha: float | None = None, patches: int = 32, precision: str = "fp32"
    ) -> None:
        check_numbers(mas_lambda=mas_lambda)
        super().__init__(mas_lambda, precision)
        self.alpha = None if alpha is None else between(alpha, "strategy.plugins.alpha", 0.0, 1.0)
        self.patches = whole(patches, "strategy.plugins.patches", 1)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Updates Ω and θ*."""
        self.admit(strategy.model)
        new = mean_over_patches(strategy, self.patches, output_norm, magnitudes)
        if self.alpha is not None and self.importance:
            torch._foreach_mul_(list(new.values()), 1 - self.alpha)
        keep = 1.0 if self.alpha is None else self.alpha
        self.consolidate(strategy.model, blend(new, self.importance, keep))


def output_norm(logits: Tensor, y: Tensor, number: int = 0) -> Tensor:
    """Mean over the voxels that are no padding of Σ_C logit²: logits `[1,C,D,H,W]`, codes `[1,1,D,H,W]` → scalar."""
    inside = y[:, 0] != IGNORE
    norms = logits.float().square().sum(1)
    return torch.where(inside, norms, 0.0).sum() / inside.sum().clamp(min=1)
