"""What a GPU holds beside tensors, as far as it can be stated without one."""

from __future__ import annotations

CONTEXT = 512 << 20
"""CUDA's context with the kernels of PyTorch and cuDNN."""
WORKSPACES = 256 << 20
"""Of cuDNN and cuBLAS."""
FRAGMENTS = 0.10
"""Share of the tensors' peak that the caching allocator holds in vain."""
CALIBRATED = "calibrated on CPU"
"""Until somebody has compared it with a GPU."""


def reserve(peak: int) -> int:
    """Bytes beside a peak of tensors."""
    return CONTEXT + WORKSPACES + int(FRAGMENTS * peak)
