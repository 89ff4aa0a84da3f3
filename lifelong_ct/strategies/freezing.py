"""Parameters that no longer learn."""

from __future__ import annotations

from collections.abc import Container

from torch import nn


def freeze(model: nn.Module, names: Container[str]) -> None:
    """Parameters of these names take no gradient any more, and let go of the one they have: it would move them once more."""
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
            parameter.grad = None
