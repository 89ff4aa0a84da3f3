"""Orthogonal gradient descent: a hospital's direction is closed to the steps of later ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes
from lifelong_ct.core.errors import LifelongCTError


class OGD(StrategyPlugin):
    """Projects gradients away from directions that change the outputs of earlier hospitals.

    Farajtabar et al., "Orthogonal Gradient Descent for Continual Learning", AISTATS 2020 (arXiv 1910.07104), algorithm 1
    with the average logit (OGD-AVE), one direction per hospital: the gradient of the mean logit over `patches` patches,
    made orthonormal to the earlier ones. Bytes: one copy of the model per hospital.

    Args:
        patches: of a hospital, that its direction is the mean of.

    Raises:
        LifelongCTError: no patch.
    """

    def __init__(self, patches: int) -> None:
        super().__init__()
        if patches < 1:
            raise LifelongCTError(f"patches={patches}", "strategy.plugins", "write one patch or more")
        self.patches = patches
        self.basis: list[dict[str, Tensor]] = []

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """g ← g - Σ ⟨g, v⟩ v, once per optimizer step; rows that the head grew since are free."""
        gradients = {n: p.grad for n, p in strategy.model.named_parameters() if p.grad is not None}
        for direction in self.basis:
            _project(gradients, direction)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Adds the direction of the hospital that ends."""
        named = dict(strategy.model.named_parameters())
        self.context.ledger.admit("gpu", "OGD basis", (len(self.basis) + 1) * tensor_bytes(named))
        strategy.model.eval()
        total = torch.stack(
            [strategy.model(x).mean() for x, _ in strategy.held_out_patches(self.patches)]
        ).mean()
        found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
        new = {
            n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)
        }
        for direction in self.basis:
            _project(new, direction)
        norm = torch.stack([value.norm() for value in new.values()]).norm().clamp(min=1e-12)
        self.basis.append({name: value / norm for name, value in new.items()})

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return {"gpu": len(self.context.hospitals) * model_bytes}

    def state_dict(self) -> dict[str, Any]:
        return {"basis": [dict(direction) for direction in self.basis]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.basis = [dict(direction) for direction in state["basis"]]

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """A loaded state came to the CPU."""
        self.basis = [{n: v.to(strategy.device) for n, v in direction.items()} for direction in self.basis]

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": tensor_bytes(self.basis)}


@torch.no_grad()
def _project(gradients: dict[str, Tensor], direction: dict[str, Tensor]) -> None:
    """Takes a unit direction out of gradients, in place. A head grows along its first axis."""
    pairs = [(gradients[n][: len(v)], v) for n, v in direction.items() if n in gradients]
    share = torch.stack([(g * v).sum() for g, v in pairs]).sum()
    for g, v in pairs:
        g.sub_(share * v)
