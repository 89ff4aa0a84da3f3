"""Online elastic weight consolidation."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.quadratic import QuadraticPenalty, blend
from lifelong_ct.strategies.sensitivity import (
    Objective,
    log_likelihood,
    mean_over_patches,
    sampled_score,
    squares,
)

FISHERS = ("loss_gradient", "empirical", "sampled")


class OnlineEWC(QuadraticPenalty):
    """Holds weights near their old values, the more the old hospitals need them.

    Kirkpatrick et al., PNAS 2017 (doi 10.1073/pnas.1611835114), eq. 3, in the online form of Schwarz et
    al., "Progress & Compress", ICML 2018, eq. 8-9: penalty λ/2 Σ F (θ - θ*)² with F ← γ F + F_new. F_new
    is a mean over `patches` patches, one patch at a time, with the model in eval mode:

    - `empirical`: of (∂ℓ/∂θ)², ℓ the log-likelihood of the patch's labels, the mean over its annotated voxels.
    - `sampled`: of V (∂ℓ/∂θ)² with labels drawn from the model's own softmax, V the number of annotated voxels:
      the Fisher information itself, without bias, as the mean over voxels (see `sampled_score`).
    - `loss_gradient`: of the squared gradient of the training loss, whatever that is (with Dice no likelihood).

    None depends on the size of the patch. They differ in scale, so each needs a λ of its own. Bytes: two copies of
    the parameters, whatever the number of hospitals.

    Args:
        ewc_lambda: λ; it includes the constant γ that the paper has in the penalty as well.
        gamma: γ, how much of the old importance stays.
        patches: patches of the experience that estimate F_new.
        fisher: empirical, sampled or loss_gradient.
        precision: of F, see `QuadraticPenalty`.
    """

    title = "EWC"

    def __init__(
        self,
        ewc_lambda: float,
        gamma: float = 1.0,
        patches: int = 32,
        fisher: str = "loss_gradient",
        precision: str = "fp32",
    ) -> None:
        check_numbers(ewc_lambda=ewc_lambda, gamma=gamma)
        if fisher not in FISHERS:
            raise LifelongCTError(f"fisher={fisher!r}", "strategy.plugins", f"use {', '.join(FISHERS)}")
        super().__init__(ewc_lambda / 2, precision)
        self.patches = whole(patches, "strategy.plugins.patches", 1)
        self.gamma, self.fisher = gamma, fisher

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Updates F and θ*."""
        self.admit(strategy.model)
        new = mean_over_patches(strategy, self.patches, self._objective(strategy), squares)
        self.consolidate(strategy.model, blend(new, self.importance, self.gamma))

    def _objective(self, strategy: Any) -> Objective:
        """What is differentiated: a patch's loss or log-likelihood."""
        if self.fisher == "loss_gradient":
            return lambda logits, y, i: strategy._criterion(logits, y)
        space, seed = self.context.label_space, self.context.seed
        if self.fisher == "empirical":
            return lambda logits, y, i: log_likelihood(logits, y, space).sum()
        experience = strategy.clock.train_exp_counter

        def sampled(logits: Tensor, y: Tensor, i: int) -> Tensor:
            return sampled_score(logits, y, space, generator(seed, "fisher", experience, i)).sum()

        return sampled
