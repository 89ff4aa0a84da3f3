"""What EWC, SI, MAS and RWalk share: a quadratic pull of every weight to its old value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes
from lifelong_ct.core.errors import LifelongCTError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class QuadraticPenalty(StrategyPlugin):
    """Base of methods that add strength · Σ Ω (θ - θ*)² to the loss and differ in the importances Ω ≥ 0.

    The gradient is known, so no graph is built for it. A head may have grown since θ*: its old rows are held,
    its new ones are free. Bytes: Ω and θ*, two copies of the parameters; with Ω in bf16 one and a half.

    Args:
        strength: factor of the sum, at least 0.
        precision: that Ω is held in, fp32 or bf16: rounded to 8 bits, once per experience.
            What is computed with it is computed in float32. θ* stays as the weights are: rounding it would pull them.

    Raises:
        LifelongCTError: another precision.

    Attributes:
        importance, anchor: Ω and θ* by the parameter's name; empty before the first consolidation.
        pull: Ω (θ - θ*) at the present weights, by name; there from `before_backward` to `after_update`. The penalty's
            gradient is 2 · strength times it.
    """

    title = "penalty"
    distributed = True

    def __init__(self, strength: float, precision: str = "fp32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise LifelongCTError(
                f"precision={precision!r}", "strategy.plugins", f"use {' or '.join(PRECISIONS)}"
            )
        self.strength, self.held_as = strength, PRECISIONS[precision]
        self.importance: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        self.pull: dict[str, Tensor] = {}

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Lays a loaded state out as the parameters are: on their device, in their order of voxel axes."""
        parameters = dict(strategy.model.named_parameters())
        for tree in (self.importance, self.anchor):
            tree.update({n: laid_out(value, parameters[n]) for n, value in tree.items() if n in parameters})

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds the penalty to the undivided loss."""
        if self.importance:
            strategy.loss = strategy.loss + self.penalty(strategy.model)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        """The weights have moved: the pull was another's."""
        self.pull = {}

    def penalty(self, model: nn.Module) -> Tensor:
        """strength · Σ Ω (θ - θ*)², a scalar with its gradient; sets `pull`."""
        held = {n: p for n, p in model.named_parameters() if n in self.importance and p.requires_grad}
        if not held:
            return torch.zeros((), device=next(model.parameters()).device)
        importances = [self.importance[n] for n in held]
        weights = [old_rows(p, omega) for p, omega in zip(held.values(), importances, strict=True)]
        anchors = [old_rows(self.anchor[n], omega) for n, omega in zip(held, importances, strict=True)]
        with torch.no_grad():
            moved = torch._foreach_sub(weights, anchors)
            pull = torch._foreach_mul(importances, moved)
            self.pull = dict(zip(held, pull, strict=True))
            value = (
                self.strength * torch.stack([_inner(a, b) for a, b in zip(pull, moved, strict=True)]).sum()
            )
        return _Known.apply((value, pull, 2 * self.strength), *weights)

    def consolidate(self, model: nn.Module, importance: dict[str, Tensor]) -> None:
        """From now on these importances, around the weights of now."""
        self.admit(model)
        self.importance = {name: omega.to(self.held_as) for name, omega in importance.items()}
        self.anchor = {name: p.detach().clone() for name, p in model.named_parameters()}

    def admit(self, model: nn.Module) -> None:
        """Asks the ledger for Ω and θ*."""
        self._admit(dict(model.named_parameters()))

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return {"gpu": self._omega_bytes(model_bytes) + model_bytes}

    def state_dict(self) -> dict[str, Any]:
        return {"importance": dict(self.importance), "anchor": dict(self.anchor)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._admit(state["anchor"])
        self.importance, self.anchor = dict(state["importance"]), dict(state["anchor"])

    def state_within(self) -> dict[str, Any]:
        """Ω and θ* wait for the end of the experience."""
        return {}

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": tensor_bytes(self.state_dict())}

    def _admit(self, parameters: Mapping[str, Tensor]) -> None:
        nbytes = tensor_bytes(dict(parameters))
        for what, held in (("importance", self._omega_bytes(nbytes)), ("anchor", nbytes)):
            self.context.ledger.admit("gpu", f"{self.title} {what}", held)

    def _omega_bytes(self, model_bytes: int) -> int:
        """Of float32 parameters of so many bytes."""
        return model_bytes * self.held_as.itemsize // 4


class _Known(torch.autograd.Function):
    """A value whose gradient is known: a factor times a list of tensors, so that upstream costs no pass of its own."""

    @staticmethod
    def forward(ctx: Any, known: tuple[Tensor, list[Tensor], float], *weights: Tensor) -> Tensor:
        value, ctx.pull, ctx.factor = known
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *torch._foreach_mul(ctx.pull, upstream * ctx.factor))


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Σ a b of tensors that fill their memory, without a pass that writes."""
    if a.stride() != b.stride():
        return (a * b).sum()
    flat = (a.numel(),), (1,)
    return torch.dot(a.as_strided(*flat), b.as_strided(*flat))


def old_rows(grown: Tensor, old: Tensor) -> Tensor:
    """The part of a parameter that `old` knows: a head grows along its first axis."""
    return grown[: len(old)] if old.ndim and len(grown) != len(old) else grown


def laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """`value` with the device and the strides of (the old rows of) a parameter; itself where it has them."""
    like = old_rows(parameter.detach(), value)
    if value.device == like.device and value.stride() == like.stride():
        return value
    return torch.empty_like(like, dtype=value.dtype).copy_(value)


def blend(new: dict[str, Tensor], old: Mapping[str, Tensor], keep: float) -> dict[str, Tensor]:
    """new + keep · old, in place of new; rows that `old` does not have stay."""
    for name, value in old.items():
        if name in new:
            old_rows(new[name], value).add_(value, alpha=keep)
    return new


def task_gradient(strategy: Any, out: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """In `after_backward`: the gradient of the loss without any quadratic penalty, by parameter.

    Args:
        strategy: the learner.
        out: takes the gradients, by name; what it has of other parameters stays.

    Returns:
        Those of `out` that were filled. None where fp16 has overflowed and the step will be skipped.
    """
    gradients = {n: p.grad for n, p in strategy.model.named_parameters() if p.grad is not None}
    scaler = getattr(strategy, "scaler", None)
    if scaler is not None and scaler.is_enabled():
        norms = torch.stack(torch._foreach_norm(list(gradients.values())))
        if not bool(norms.isfinite().all()):
            return None
    filled = {name: out[name] for name in gradients}
    penalties = [p for p in strategy.plugins if isinstance(p, QuadraticPenalty) and p.pull]
    only = penalties[0] if len(penalties) == 1 else None
    for name, gradient in gradients.items():
        if only and name in only.pull and only.pull[name].shape == gradient.shape:
            torch.sub(
                gradient, only.pull[name], alpha=2 * only.strength, out=filled[name]
            )  # one pass, not two
            continue
        filled[name].copy_(gradient)
        for penalty in penalties:
            if name in penalty.pull:
                pull = penalty.pull[name]
                old_rows(filled[name], pull).sub_(pull, alpha=2 * penalty.strength)
    return filled
