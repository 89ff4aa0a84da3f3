"""The path integral of SI and RWalk: what each parameter has done for the loss while it moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lifelong_ct.avalanche_bridge.plugin import tensor_bytes
from lifelong_ct.strategies.quadratic import task_gradient


class LossPath:
    """-Σ g Δθ over optimizer steps, per parameter: the fall of the loss that it brought about, to first order.

    g is the gradient of the task's loss at the start of a step, accumulated over its micro-batches and before
    clipping: the line integral asks for the slope of the loss, not for what the optimizer made of it. Quadratic
    penalties are taken out of it, as in the code of Zenke et al. (`unreg_grads` of github.com/ganguli-lab/pathint).
    Δθ is how far the parameter really went: clipping, momentum, learning rate, weight decay and penalties move it,
    and the loss follows whatever did. Bytes: three copies of the parameters.

    Args:
        model: whose parameters move; those without a gradient stay at 0.

    Attributes:
        fall: the sum since the start or the last `restart`, by name.
    """

    def __init__(self, model: nn.Module) -> None:
        with torch.no_grad():
            self.fall = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
            self._start = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
            self._slope = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
        self._moving: dict[str, nn.Parameter] = {}

    @torch.no_grad()
    def leave(self, strategy: Any) -> dict[str, Tensor] | None:
        """In `after_backward`: where the step starts. The task's gradient by name, None where no step follows."""
        gradients = task_gradient(strategy, self._slope)
        named = dict(strategy.model.named_parameters())
        self._moving = {} if gradients is None else {name: named[name] for name in gradients}
        if self._moving:
            torch._foreach_copy_(self._of(self._start), list(self._moving.values()))
        return gradients

    @torch.no_grad()
    def arrive(self) -> None:
        """In `after_update`: where it ended."""
        if self._moving:
            back = self._of(self._start)
            torch._foreach_sub_(back, list(self._moving.values()))  # -Δθ
            torch._foreach_addcmul_(self._of(self.fall), back, self._of(self._slope))
        self._moving = {}

    def restart(self) -> None:
        """Counts from 0 again."""
        torch._foreach_zero_(list(self.fall.values()))

    def state_dict(self) -> dict[str, Any]:
        """Between two steps."""
        return {"fall": dict(self.fall)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`, for the same parameters."""
        fill(self.fall, state["fall"])

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return tensor_bytes([self.fall, self._start, self._slope])

    def _of(self, tree: dict[str, Tensor]) -> list[Tensor]:
        return [tree[name] for name in self._moving]


@torch.no_grad()
def fill(tree: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copies values into tensors of the same names, which keep their device and layout."""
    for name, value in values.items():
        tree[name].copy_(value)
