"""What networks compute in."""

from __future__ import annotations

import torch

from lifelong_ct.core.errors import LifelongCTError

AMP_TYPES = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}


def amp_type(name: str | None, device: torch.device | str) -> torch.dtype | None:
    """`trainer.amp` as autocast takes it.

    Raises:
        LifelongCTError: unknown, or nothing for the device.
    """
    if name not in AMP_TYPES:
        raise LifelongCTError(f"{name!r} is not a precision", "trainer.amp", "use null, bf16 or fp16")
    if name == "fp16" and not str(device).startswith("cuda"):
        raise LifelongCTError("fp16 needs a GPU", "trainer.amp", "use bf16 on the CPU")
    return AMP_TYPES[name]
