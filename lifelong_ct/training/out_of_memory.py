"""Fewer samples in the network at once, for the same step.

Activations are what a pass holds. A micro-batch that does not fit goes through the network in parts, each of which is
computed once more when its gradient is asked for (Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv
1604.06174), so that the activations of one part are held at a time. Hooks, augmentation, draws and losses see the whole
micro-batch as before, once: whatever a plugin makes of it, the gradient is the same, up to rounding, for networks
without batch statistics. The price is a second forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.models.checkpointing import counted_once

_TOLD = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no room: PyTorch says so, or a library of CUDA does."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TOLD)


@contextmanager
def told(doing: str, fix: str) -> Iterator[None]:
    """What runs out of memory meanwhile ends with an error that says what to do.

    Args:
        doing: what was done.
        fix: which setting would help.

    Raises:
        LifelongCTError: in place of the device's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        first, *_ = str(error).splitlines() or [""]
        raise LifelongCTError(f"out of GPU memory while {doing}: {first}", "memory.gpu", fix) from error


def in_parts(model: nn.Module, x: Tensor, most: int | None) -> Tensor:
    """`model(x)`, at most so many samples at once.

    Args:
        model: each sample's answer depends on the sample alone; batch statistics are those of a part.
        x: `[B,...]`.
        most: samples; None for all of them.
    """
    if most is None or len(x) <= most:
        found: Tensor = model(x)
        return found
    if not torch.is_grad_enabled():
        return torch.cat([model(part) for part in x.split(most)])
    return torch.cat(
        [_again(model, part, contexts=lambda: (nullcontext(), counted_once(model))) for part in x.split(most)]
    )


def loss_in_parts(
    criterion: Callable[[Tensor, Tensor], Tensor], logits: Tensor, y: Tensor, most: int | None
) -> Tensor:
    """`criterion(logits, y)`, a mean over samples, at most so many at once."""
    if most is None or len(logits) <= most:
        return criterion(logits, y)
    shares = [
        _again(criterion, *part) * (len(part[0]) / len(logits))
        for part in zip(logits.split(most), y.split(most), strict=True)
    ]
    return torch.stack(shares).sum(0)


def _again(run: Callable[..., Tensor], *given: Tensor, contexts: Any = None) -> Tensor:
    more = {} if contexts is None else {"context_fn": contexts}
    found: Tensor = checkpoint(run, *given, use_reentrant=False, **more)
    return found
