"""Online elastic weight consolidation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes
from lifelong_ct.core.errors import LifelongCTError


class OnlineEWC(StrategyPlugin):
    """Holds weights near their old values, the more the old hospitals need them.

    Kirkpatrick et al., PNAS 2017 (doi 10.1073/pnas.1611835114), eq. 3, in the online form of Schwarz et
    al., "Progress & Compress", ICML 2018, eq. 8-9: penalty λ/2 Σ F (θ - θ*)² with F ← γ F + F_new. F_new
    is the mean over `patches` patches of the squared gradient of the loss, one patch at a time. Bytes: two
    copies of the parameters, whatever the number of hospitals.

    Args:
        ewc_lambda: λ; it includes the constant γ that the paper has in the penalty as well.
        gamma: γ, how much of the old importance stays.
        patches: patches of the experience that estimate F_new.
    """

    def __init__(self, ewc_lambda: float, gamma: float = 1.0, patches: int = 32) -> None:
        super().__init__()
        numbers = all(isinstance(value, (int, float)) and value >= 0 for value in (ewc_lambda, gamma))
        if not numbers or not isinstance(patches, int) or patches < 1:
            raise LifelongCTError(
                f"ewc_lambda={ewc_lambda}, gamma={gamma} and patches={patches}",
                "strategy.plugins",
                "write numbers of at least 0, and one patch or more",
            )
        self.ewc_lambda, self.gamma, self.patches = ewc_lambda, gamma, patches
        self.fisher: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Brings a loaded state to the model's device."""
        for tree in (self.fisher, self.anchor):
            tree.update({name: value.to(strategy.device) for name, value in tree.items()})

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds the penalty to the undivided loss."""
        if self.fisher:
            strategy.loss = strategy.loss + self.penalty(strategy.model)

    def penalty(self, model: nn.Module) -> Tensor:
        """λ/2 Σ F (θ - θ*)²; rows that the head grew since then are free."""
        terms = [
            (self.fisher[name] * (_old_rows(parameter, self.anchor[name]) - self.anchor[name]).square()).sum()
            for name, parameter in model.named_parameters()
            if name in self.fisher
        ]
        return self.ewc_lambda / 2 * torch.stack(terms).sum()

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Updates F and θ*."""
        parameters = dict(strategy.model.named_parameters())
        self._admit(parameters)
        new = diagonal_fisher(strategy, self.patches)
        for name, old in self.fisher.items():
            _old_rows(new[name], old).add_(old, alpha=self.gamma)
        self.fisher = new
        self.anchor = {name: p.detach().clone() for name, p in parameters.items()}

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return {"gpu": 2 * model_bytes}

    def state_dict(self) -> dict[str, Any]:
        return {"fisher": dict(self.fisher), "anchor": dict(self.anchor)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._admit(state["anchor"])
        self.fisher, self.anchor = dict(state["fisher"]), dict(state["anchor"])

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": tensor_bytes([self.fisher, self.anchor])}

    def _admit(self, parameters: dict[str, Any]) -> None:
        for owner in ("EWC Fisher", "EWC anchor"):
            self.context.ledger.admit("gpu", owner, tensor_bytes(parameters))


def _old_rows(grown: Tensor, old: Tensor) -> Tensor:
    """The part of a parameter that `old` knows: a head grows along its first axis."""
    return grown[: len(old)] if old.ndim else grown


def diagonal_fisher(strategy: Any, patches: int) -> dict[str, Tensor]:
    """Mean over patches of the squared gradient of the loss of one patch, per parameter."""
    model = strategy.model
    was_training = model.training
    model.eval()
    fisher = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x, y in strategy.held_out_patches(patches):
        model.zero_grad(set_to_none=True)
        strategy._criterion(model(x), y).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                fisher[name] += parameter.grad.square() / patches
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return fisher
