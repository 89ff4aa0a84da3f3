"""Operations that give the same bits every time, on a GPU too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lifelong_ct.core.errors import LifelongCTError

_TOLD = "does not have a deterministic implementation"


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Meanwhile PyTorch takes only operations that do, where that is wanted; its settings of before come back.

    Raises:
        LifelongCTError: for an operation there is none.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may add in any order
    before = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False  # which kernel is the fastest may differ between runs
    try:
        yield
    except RuntimeError as error:
        if _TOLD not in str(error):
            raise
        raise LifelongCTError(
            str(error).split(", but", 1)[0],
            "trainer.deterministic",
            "use another network, such as model=unet or model=dynunet, another loss or strategy, or "
            "trainer.deterministic=false",
        ) from error
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.backends.cudnn.benchmark = before[1]
