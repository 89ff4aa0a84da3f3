"""What operations hold inside themselves on the CPU, as far as PyTorch's own allocator gives it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_FORWARD = torch.ops.aten.convolution.default
_BACKWARD = torch.ops.aten.convolution_backward.default


def columns(func: Any, args: tuple[Any, ...]) -> int:
    """Bytes of the columns that a small convolution is unfolded to. (Large ones go to oneDNN, whose own memory no
    allocator of PyTorch's knows.)

    Args:
        func: operation of ATen.
        args: of it.
    """
    if func is _FORWARD:
        x, weight, bias, stride, padding, dilation, transposed, more, groups = args[:9]
        over, sizes = _places(x, weight, stride, padding, dilation, transposed), None
    elif func is _BACKWARD:
        slope, x, weight, sizes, stride, padding, dilation, transposed, more, groups = args[:10]
        bias, over = None, math.prod((x if transposed else slope).shape[2:])
    else:
        return 0
    backend = torch._C._select_conv_backend(
        x, weight, bias, stride, padding, dilation, transposed, more, groups, sizes
    )
    kinds = torch._C._ConvBackend  # type: ignore[attr-defined]
    if backend not in (kinds.Slow3d, kinds.SlowTranspose3d):
        return 0
    kernel = math.prod(weight.shape[2:])
    if kernel == 1 and not transposed:
        return 0  # the input is its own columns
    rows = weight.shape[1] * kernel  # input channels, or output channels where it is transposed
    samples = 1 if transposed else len(x)
    return int(samples * rows * over * x.element_size())


def _places(x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, transposed: bool) -> int:
    """Voxels that a kernel is laid on."""
    if transposed:
        return math.prod(x.shape[2:])
    steps = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    return math.prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in steps)
