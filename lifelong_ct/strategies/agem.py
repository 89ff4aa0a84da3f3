"""Averaged gradient episodic memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection import SelectionPolicy
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.strategies.replay import Replay

_OWNER = "A-GEM reference"


class AGEM(Replay):
    """Bends a step that would raise the loss on earlier hospitals until it does so no more.

    Chaudhry et al., "Efficient Lifelong Learning with A-GEM", ICLR 2019 (arXiv 1812.00420), eq. 10-11: with g the
    gradient of the new batch and g_ref that of a batch drawn from the memory, the step follows g where g·g_ref ≥ 0,
    and otherwise g - (g·g_ref / g_ref·g_ref) g_ref, the nearest gradient without that conflict. g_ref is made once per
    optimizer step, of the training loss of exemplars as they are stored, of those that `Replay` would draw. g is the accumulated,
    unscaled gradient before clipping, with what other plugins add to the loss. A parameter without a gradient of its
    own does not move and counts in no product. What holds for the gradient holds for the step with plain SGD;
    momentum and Adam mix in the gradients of earlier steps. What takes the gradient for that of the loss (SI, RWalk)
    stands before it in the list.

    Bytes: the exemplars, `memory.exemplars` whatever the number of hospitals, and two copies of the parameters within
    a step: g_ref, and the gradient of a micro-batch of exemplars that is added to it. Time: a forward and a backward
    pass of the exemplars per optimizer step.

    Args:
        selection: policy of the memory.
        exemplars_per_step: patches of the memory of which g_ref is the gradient.
        offer_every, window, precision: see `Replay`.
    """

    def __init__(
        self,
        selection: SelectionPolicy,
        exemplars_per_step: int = 1,
        offer_every: int = 1,
        window: Sequence[float] | None = None,
        precision: int = 1,
    ) -> None:
        whole(exemplars_per_step, "strategy.plugins.exemplars_per_step", 1)
        super().__init__(selection, exemplars_per_step, offer_every, window, precision)
        self._reference: dict[str, Tensor] = {}

    def check_behind(self, others: Sequence[StrategyPlugin]) -> None:
        """After A-GEM the gradient is no longer that of the loss."""
        late = [type(other).__name__ for other in others if other.reads_gradient]
        if late:
            raise LifelongCTError(
                f"{' and '.join(late)} would take the gradient that A-GEM has bent for that of the loss",
                "strategy.plugins",
                f"list AGEM after {' and '.join(late)}",
            )

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Makes g_ref of exemplars of the past; none where there are none."""
        past = self.past(strategy)
        if not past:
            return
        moving = [p for p in strategy.model.parameters() if p.requires_grad]
        self.context.ledger.admit("gpu", _OWNER, 2 * tensor_bytes(moving))
        strategy.model.train()
        self._reference = loss_gradient(strategy, past["x"], past["y"])
        self.context.ranks.average(self._reference.values())

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Takes the new patches; the micro-batch stays as it is."""
        self.take(strategy)

    @torch.no_grad()
    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Projects the gradient, and lets g_ref go."""
        reference, self._reference = self._reference, {}
        moving = [
            (p.grad, reference[name])
            for name, p in strategy.model.named_parameters()
            if p.grad is not None and name in reference
        ]
        if moving:
            project(*zip(*moving, strict=True))
        del moving, reference
        self.context.ledger.release("gpu", _OWNER)

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return {**super().declared_bytes(model_bytes), "gpu": 2 * model_bytes}


def loss_gradient(strategy: Any, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Gradient of the mean training loss of patches, by name of the parameter, in micro-batches and in the precision
    of the run; parameters that the loss does not reach are left out.

    Args:
        strategy: the learner; its parameters' own gradients stay as they are.
        x: int16 `[N,C,D,H,W]`.
        y: codes `[N,1,D,H,W]`.
    """
    named = {name: p for name, p in strategy.model.named_parameters() if p.requires_grad}
    total: dict[str, Tensor] = {}
    size = min(strategy.train_mb_size, strategy.at_once or strategy.train_mb_size)
    pieces = zip(x.split(size), y.split(size), strict=True)
    for some_x, some_y in pieces:
        with torch.autocast(strategy.device.type, dtype=strategy.amp, enabled=strategy.amp is not None):
            logits = strategy.model(some_x.to(strategy.device))
        loss = strategy._criterion(logits, some_y.to(strategy.device)) * (len(some_x) / len(x))
        found = torch.autograd.grad(strategy.scaler.scale(loss), list(named.values()), allow_unused=True)
        for name, gradient in zip(named, found, strict=True):
            if gradient is not None:
                total[name] = total[name] + gradient if name in total else gradient
    torch._foreach_div_(list(total.values()), strategy.scaler.get_scale())
    return total


def project(gradient: Sequence[Tensor], reference: Sequence[Tensor]) -> None:
    """Eq. 11, in place: takes out of g its part along g_ref where they point apart. A gradient that is no number, as
    with fp16 at times, stays as it is: the learner deals with it."""
    along = _dot(gradient, reference)
    if not along < 0 or not math.isfinite(along):
        return
    square = _dot(reference, reference)
    if math.isfinite(square):
        torch._foreach_sub_(list(gradient), torch._foreach_mul(list(reference), along / square))


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    products = torch._foreach_mul(list(one), list(other))
    return float(torch.stack([each.sum(dtype=torch.float64) for each in products]).sum())
