"""Optimizer state that lies in host memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class HostState:
    """Mixed into the class of an optimizer of `torch.optim` that treats every element of a parameter on its own (not
    LBFGS): its state is on the device for one parameter at a time. Weights become what they would be without."""

    param_groups: list[dict[str, Any]]
    state: dict[Tensor, dict[str, Any]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step, parameter by parameter."""
        everything = [group["params"] for group in self.param_groups]
        try:
            for group in self.param_groups:
                group["params"] = []
            for group, parameters in zip(self.param_groups, everything, strict=True):
                for parameter in parameters:
                    group["params"] = [parameter]
                    self._one(parameter)
                group["params"] = []
        finally:
            for group, parameters in zip(self.param_groups, everything, strict=True):
                group["params"] = parameters

    def _one(self, parameter: Tensor) -> None:
        state = self.state.get(parameter, {})
        _move(state, parameter.device)
        super().step()  # type: ignore[misc]
        _move(self.state.get(parameter, {}), torch.device("cpu"))


def hosted(make: Callable[[Any], torch.optim.Optimizer]) -> Callable[[Any], torch.optim.Optimizer]:
    """An optimizer's maker whose optimizers keep their state in host memory."""

    def made(parameters: Any) -> torch.optim.Optimizer:
        optimizer = make(parameters)
        kind = type(optimizer)
        optimizer.__class__ = type(f"HostState{kind.__name__}", (HostState, kind), {})
        return optimizer

    return made


def _move(state: dict[str, Any], device: torch.device) -> None:
    """Moments; a count of steps lies on the host always."""
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim:
            state[key] = value.to(device)
