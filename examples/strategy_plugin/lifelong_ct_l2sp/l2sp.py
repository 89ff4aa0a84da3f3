"""L2-SP: every weight is held near its value after the last experience."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes


class L2SP(StrategyPlugin):
    """Penalty λ/2 Σ (θ - θ*)² (Li, Grandvalet & Davoine, ICML 2018, arXiv 1802.01483, eq. 2).

    Args:
        weight: λ.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.anchor: dict[str, Tensor] = {}

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds the penalty to the undivided loss; rows that the head grew since are free."""
        if not self.anchor:
            return
        terms = [
            (parameter[: len(self.anchor[name])] - self.anchor[name]).square().sum()
            for name, parameter in strategy.model.named_parameters()
            if name in self.anchor
        ]
        strategy.loss = strategy.loss + self.weight / 2 * torch.stack(terms).sum()

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The weights of now become θ*."""
        self.anchor = {n: p.detach().clone() for n, p in strategy.model.named_parameters()}
        self.context.ledger.admit("gpu", "L2-SP anchor", tensor_bytes(self.anchor))

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return {"gpu": model_bytes}

    def state_dict(self) -> dict[str, Any]:
        return {"anchor": dict(self.anchor)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.anchor = dict(state["anchor"])

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": tensor_bytes(self.anchor)}
