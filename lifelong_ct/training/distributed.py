"""Where a run computes: the device, its ceiling, and the rank of the process."""

from __future__ import annotations

import os

import torch

from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.units import format_bytes


def place(device: str, limit: int | None, ranks: int = 1) -> torch.device:
    """The device of this process; on CUDA the process may not pass `limit` bytes.

    Args:
        device: auto, cpu, cuda or cuda:1. With `torchrun`, `auto` and `cuda` take the local rank's GPU.
        limit: bytes of `memory.gpu`, None for all of it.
        ranks: that work together.

    Raises:
        LifelongCTError: a device that is not there, or more ranks than work together.
        LimitExceeded: the GPU is smaller than the limit.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > ranks:
        raise LifelongCTError(
            f"{os.environ['WORLD_SIZE']} ranks were started, this works on one",
            "WORLD_SIZE",
            "start it without torchrun; `train` takes several ranks, one run at a time",
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(str(device))
    except RuntimeError as error:
        raise LifelongCTError(
            f"{device!r} is no device", "trainer.device", "use auto, cpu or cuda"
        ) from error
    if chosen.type == "cuda":
        return _cuda(chosen, limit)
    if chosen.type != "cpu":
        raise LifelongCTError(f"{device!r} is not supported", "trainer.device", "use auto, cpu or cuda")
    return chosen


def _cuda(device: torch.device, limit: int | None) -> torch.device:
    if not torch.cuda.is_available():
        raise LifelongCTError("there is no CUDA device", "trainer.device", "use trainer.device=cpu or auto")
    index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise LifelongCTError(
            f"there is no GPU {index}", "trainer.device", f"this machine has {torch.cuda.device_count()}"
        )
    if limit is not None:
        total = torch.cuda.get_device_properties(index).total_memory
        if limit > total:
            raise LimitExceeded(
                f"the GPU has {format_bytes(total)}, the limit is {format_bytes(limit)}",
                "memory.gpu",
                f"set memory.gpu to at most {total}, or null",
            )
        torch.cuda.set_per_process_memory_fraction(limit / total, index)
    return torch.device("cuda", index)
