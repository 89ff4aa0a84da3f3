"""What a GPU holds beside the tensors that are predicted: stated until a run on one has told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import read_json, write_json

NAME = "gpu.json"
MOST_CONTEXT = 4 << 30
"""Bytes; a context of more is other processes' memory."""


@dataclass(frozen=True)
class Reserve:
    """Bytes beside a peak of tensors.

    Attributes:
        context: of CUDA, with the kernels of PyTorch and cuDNN.
        workspaces: of cuDNN and cuBLAS: tensors that no rehearsal sees.
        fragments: share of the tensors' peak that the caching allocator holds in vain.
        told: who says so.
    """

    context: int = 512 << 20
    workspaces: int = 256 << 20
    fragments: float = 0.10
    told: str = "calibrated on CPU"

    def beside(self, peak: int) -> int:
        """Bytes beside a peak."""
        return self.context + self.workspaces + int(self.fragments * peak)


STATED = Reserve()


def measured(predicted: int, most: Mapping[str, int], beside: int, device: str) -> Reserve | None:
    """What a finished run on a GPU tells; None where other processes' memory is in it.

    Args:
        predicted: its peak of tensors, bytes.
        most: bytes that it `allocated` and `reserved` at most.
        beside: bytes of the device in use that its allocator did not hold.
        device: its name.
    """
    if not most or beside > MOST_CONTEXT:
        return None
    workspaces = max(STATED.workspaces, most["allocated"] - predicted)  # another network asks for others
    fragments = max(0, most["reserved"] - most["allocated"]) / most["allocated"]
    return Reserve(beside, workspaces, fragments, f"calibrated on {device}, torch {torch.__version__}")


def calibrate(folder: Path, seen: Reserve) -> None:
    """Writes down the most of what runs on the same device have told; another device or torch begins anew."""
    before = calibrated(folder)
    if before.told == seen.told:
        most = {f.name: max(getattr(before, f.name), getattr(seen, f.name)) for f in fields(Reserve)}
        seen = Reserve(**most)
    write_json(folder / NAME, vars(seen))


def calibrated(folder: Path) -> Reserve:
    """What runs have told; as stated where none has.

    Args:
        folder: `paths.state`.

    Raises:
        LifelongCTError: the file is no such thing.
    """
    path = folder / NAME
    if not path.exists():
        return STATED
    try:
        return Reserve(**read_json(path))
    except TypeError as error:
        raise LifelongCTError(f"{NAME}: {error}", "paths.state", f"delete {NAME} there") from error
