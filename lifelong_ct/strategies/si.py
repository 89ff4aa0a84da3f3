"""Synaptic intelligence."""

from __future__ import annotations

from typing import Any

import torch

from lifelong_ct.avalanche_bridge.plugin import tensor_bytes
from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.path import LossPath
from lifelong_ct.strategies.quadratic import QuadraticPenalty, blend


class SI(QuadraticPenalty):
    """Holds weights near their old values, the more they lowered the loss on their way there.

    Zenke et al., "Continual Learning Through Synaptic Intelligence", ICML 2017 (arXiv 1703.04200): penalty
    c Σ Ω (θ - θ*)² (eq. 4) with Ω ← max(0, Ω + ω / (Δ² + ξ)) (eq. 5; the max is of the authors' code, where a
    weight may have raised the loss), Δ how far a weight went in the experience, and ω the path integral of the
    task's loss (eq. 3), see `LossPath`. What other plugins add to the loss (replay, distillation) counts as task;
    quadratic penalties do not. It reads no patch again, so one pass over the data serves it. Bytes: Ω and θ*, and
    three copies more while it trains, whatever the number of hospitals.

    Args:
        si_lambda: c.
        damping: ξ, above 0.
        precision: of Ω, see `QuadraticPenalty`.
    """

    title = "SI"
    reads_gradient = True

    def __init__(self, si_lambda: float, damping: float = 0.1, precision: str = "fp32") -> None:
        check_numbers("write numbers, c of at least 0", si_lambda=si_lambda)
        check_numbers("write a damping above 0, such as 0.1", positive=True, damping=damping)
        super().__init__(si_lambda, precision)
        self.damping = damping
        self.path: LossPath | None = None

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The path starts; until its end θ* is also where it started."""
        super().before_training_exp(strategy)
        self.admit(strategy.model)
        parameters = dict(strategy.model.named_parameters())
        self.context.ledger.admit("gpu", "SI path", 3 * tensor_bytes(parameters))
        self.anchor = {name: p.detach().clone() for name, p in parameters.items()}
        self.path = LossPath(strategy.model)

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        assert self.path is not None
        self.path.leave(strategy)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        assert self.path is not None
        self.path.arrive()
        super().after_update(strategy)

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Updates Ω and θ*, and lets the path go."""
        assert self.path is not None
        new = self.path.fall
        for name, parameter in strategy.model.named_parameters():
            new[name] /= (parameter - self.anchor[name]).square_().add_(self.damping)
        for value in blend(new, self.importance, keep=1.0).values():
            value.clamp_(min=0)
        self.path = None
        self.context.ledger.release("gpu", "SI path")
        self.consolidate(strategy.model, new)

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return {"gpu": super().declared_bytes(model_bytes)["gpu"] + 3 * model_bytes}

    def state_within(self) -> dict[str, Any]:
        """The path so far; where it started the hook before the first step knows."""
        return {} if self.path is None else self.path.state_dict()

    def load_state_within(self, state: dict[str, Any], strategy: Any) -> None:
        assert self.path is not None
        self.path.load_state_dict(state)

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": super().held_bytes()["gpu"] + (0 if self.path is None else self.path.nbytes)}
