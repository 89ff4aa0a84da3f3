"""Class prototypes: what is replayed is drawn from a mean and a spread of features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lifelong_ct.avalanche_bridge.plugin import StrategyContext
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.labels import IGNORE
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.taps import Taps
from lifelong_ct.strategies.teacher import TeacherPlugin, inside

LEAST = 32
"""Voxels of a prototype. The mean of fewer is no statistic, and says much of each of them."""
_SHARED = ("features", "patches")


class Prototypes(TeacherPlugin):
    """Reminds the head of earlier hospitals' organs without one voxel of them.

    Zhu et al., "Prototype Augmentation and Self-Supervision for Incremental Learning" (PASS), CVPR 2021, without its
    self-supervision. After a hospital the mean μ of the features that reach the head is kept for every code of the
    labels: each organ, and what its cases left unlabelled. Later the loss of the run is added on features drawn as
    μ + r e with e ~ N(0, 1), which reach the head only, and λ_kd Σ (f - f_old)² / Σ f_old² on the new patches holds the
    features where the prototypes were taken. Unlike the paper's one radius for all classes, r is the standard deviation
    of each code and feature; unlike its norm, the distance is relative, so that no patch size weighs.

    A prototype is made of features, so a hospital that forbids even these leaves none. Bytes: one copy of the model,
    and 16 (organs + 1) × features for each hospital, whatever the size of its scans.

    Args:
        prototype_lambda: weight of the loss on prototypes.
        feature_lambda: λ_kd.
        samples: features drawn per micro-batch, of all hospitals and codes with equal right.
        patches: patches of the new hospital from which its prototypes are made.
    """

    def __init__(
        self,
        prototype_lambda: float = 10.0,
        feature_lambda: float = 10.0,
        samples: int = 64,
        patches: int = 32,
    ) -> None:
        super().__init__()
        check_numbers(prototype_lambda=prototype_lambda, feature_lambda=feature_lambda)
        self.prototype_lambda, self.feature_lambda = prototype_lambda, feature_lambda
        self.samples = whole(samples, "strategy.plugins.samples", 1)
        self.patches = whole(patches, "strategy.plugins.patches", 1)
        self.rows: list[tuple[str, int]] = []
        self._taps = Taps(["backbone"])

    def bind(self, context: StrategyContext) -> None:
        super().bind(context)
        self.features = context.new_model().head.weight.shape[1]
        self.gaussians = torch.zeros(0, 2, self.features)
        context.ledger.admit("ram", "prototypes", self._most() * 8 * self.features)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Prototypes of the hospital, then the model of now becomes the teacher."""
        hospital = self.context.hospitals[strategy.clock.train_exp_counter]
        if self.context.sharing.get(hospital) in _SHARED:
            self._keep(hospital, *self._moments(strategy))
        super().after_training_exp(strategy)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Hooks the model for this forward pass."""
        if self.teacher is not None:
            self._taps.open(strategy.model)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Asks the old model for the features that it sees."""
        if self.teacher is None:
            return
        (new,) = self._taps.close()
        self._taps.open(self.teacher)
        self.answer(strategy)
        (old,) = self._taps.close()
        counted = inside(strategy.mb_y)[:, None]
        # replayed features may stand behind the new ones
        self._moved = moved(new[: len(old)] * counted, old * counted)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds both terms to the undivided loss."""
        if self.teacher is None:
            return
        strategy.loss = strategy.loss + self.feature_lambda * self._moved
        del self._moved
        if self.rows:
            z, y = self.draw(strategy.clock.train_iterations, strategy.micro_step, strategy.device)
            replayed = strategy._criterion(strategy.model.head(z), y)
            strategy.loss = strategy.loss + self.prototype_lambda * replayed

    def draw(self, step: int, micro_step: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Augmented prototypes as a patch of `samples` voxels: float `[1,F,n,1,1]` and codes `[1,1,n,1,1]`."""
        rng = generator(self.context.seed, "prototypes", step, micro_step)
        which = torch.from_numpy(rng.integers(0, len(self.rows), self.samples))
        noise = torch.from_numpy(rng.standard_normal((self.samples, self.features)))
        mean, spread = self.gaussians[which].unbind(1)
        z = mean + spread * noise.float()
        y = torch.tensor([code for _, code in self.rows])[which]
        return z.T[None, :, :, None, None].to(device), y[None, None, :, None, None].to(device)

    @torch.no_grad()
    def _moments(self, strategy: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Of the features of each code: voxels `[codes]`, mean and standard deviation `[codes,F]`."""
        codes = len(self.context.label_space.candidates())
        count = torch.zeros(codes, 1, dtype=torch.float64, device=strategy.device)
        first, second = (count.repeat(1, self.features) for _ in range(2))
        was_training = strategy.model.training
        strategy.model.eval()
        for x, y in strategy.held_out_patches(self.patches):
            self._taps.open(strategy.model)
            strategy.model(x)
            (f,) = self._taps.close()
            f, which = f.double().movedim(1, -1).flatten(0, -2), y.flatten().long()
            count += which.bincount(minlength=codes)[:, None]
            first.index_add_(0, which, f)
            second.index_add_(0, which, f.square())
        strategy.model.train(was_training)
        mean = first / count.clamp(min=1)
        spread = (second / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
        return count[:, 0].cpu(), mean.cpu(), spread.cpu()

    def _keep(self, hospital: str, count: Tensor, mean: Tensor, spread: Tensor) -> None:
        literal = self.context.label_space.literal()
        enough = [c for c in range(len(count)) if c != IGNORE and count[c] >= LEAST]
        # organs before what is unlabelled: of that there is a code for each set of organs that some case annotates
        kept = sorted(enough, key=lambda c: (literal[c] == 0, -float(count[c])))[: self._most_codes()]
        self.rows += [(hospital, code) for code in kept]
        self.gaussians = torch.cat([self.gaussians, torch.stack([mean[kept], spread[kept]], 1).float()])

    def _most_codes(self) -> int:
        return 2 * (len(self.context.label_space.organs) + 1)

    def _most(self) -> int:
        keeping = [h for h in self.context.hospitals if self.context.sharing.get(h) in _SHARED]
        return len(keeping) * self._most_codes()

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return super().declared_bytes(model_bytes) | {"ram": self._most() * 8 * self.features}

    def held_bytes(self) -> dict[str, int]:
        return super().held_bytes() | {"ram": self.gaussians.nbytes}

    def state_dict(self) -> dict[str, Any]:
        rows = [[hospital, code] for hospital, code in self.rows]
        return super().state_dict() | {"rows": rows, "gaussians": self.gaussians}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rows = [(hospital, code) for hospital, code in state["rows"]]
        self.gaussians = state["gaussians"].cpu()


def moved(new: Tensor, old: Tensor) -> Tensor:
    """Σ (f - f_old)² / Σ f_old² over features and voxels `[B,F,D,H,W]`, the mean over the batch."""
    old = old.float()
    apart_B, whole_B = ((f**2).flatten(1).mean(1) for f in (new.float() - old, old))
    return (apart_B / whole_B.clamp(min=1e-12)).mean()
