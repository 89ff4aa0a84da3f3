"""Activation checkpointing: what a block needs for its gradient is computed again instead of kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.utils.checkpoint import checkpoint

MOST = 3
"""Weighted layers of a block: a residual block has two or three."""


class Checkpointed(nn.Module):
    """Mixed into the class of a block. Parameters keep their names, and copies of the module work like it."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As before, with activations that last until the block is left."""
        inner = super().forward
        if not torch.is_grad_enabled():
            return inner(*args, **kwargs)
        return checkpoint(
            inner,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), counted_once(self)),
            **kwargs,
        )


def checkpointed(model: nn.Module) -> nn.Module:
    """A model whose blocks keep their inputs only: Chen et al., "Training Deep Nets with Sublinear Memory Cost"
    (arXiv 1604.06174). Gradients are those of before, to the last bit where its operations are deterministic; a step takes
    about one more forward pass. Blocks are the largest modules with at most `MOST` convolutions and linear layers and at
    least one; running statistics count each patch once.
    """
    for block in dict.fromkeys(blocks(model)):  # a module may have several places
        kind = type(block)
        block.__class__ = type(f"Checkpointed{kind.__name__}", (Checkpointed, kind), {})
    return model


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """What is checkpointed."""
    for child in model.children():
        count = sum(isinstance(m, (_ConvNd, nn.Linear)) for m in child.modules())
        if 0 < count <= MOST and not isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield child
        elif count:
            yield from blocks(child)


@contextmanager
def counted_once(block: nn.Module) -> Iterator[None]:
    """While a block is computed again its running statistics stay."""
    kept = [
        (buffer, buffer.clone())
        for module in block.modules()
        if isinstance(module, _NormBase)
        for buffer in module.buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
