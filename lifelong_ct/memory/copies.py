"""Patches that are kept as they are, uncompressed, as part of a checkpoint: tensors, and whose each patch is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lifelong_ct.core.errors import CheckpointError
from lifelong_ct.memory import rows

KIND = "patch copies"
"""Tells the state of copies among those of a strategy."""


def of(tensors: Mapping[str, Tensor], patients: Sequence[str]) -> dict[str, Any]:
    """The state of n copies.

    Args:
        tensors: name → `[n, …]`, such as int16 `x` `[n,C,D,H,W]` and codes `y` `[n,1,D,H,W]`.
        patients: keyed hash of each one's patient; empty where nobody told.
    """
    return {"kind": KIND, "tensors": dict(tensors), "patients": list(patients)}


def opened(copies: Any) -> tuple[dict[str, Tensor], list[str]]:
    """What `of` was given.

    Raises:
        CheckpointError: it is of a version that did not write down whose the patches are.
    """
    if not isinstance(copies, dict) or copies.get("kind") != KIND:
        raise CheckpointError(
            "the checkpoint does not tell whose the patches of an Avalanche plugin are",
            "strategy.plugins",
            "delete the run folder's checkpoints and start the run again",
        )
    return copies["tensors"], copies["patients"]


def without(copies: dict[str, Any], patients: Collection[str]) -> int:
    """Takes the patches of patients out; how many there were."""
    stays = [patient not in patients for patient in copies["patients"]]
    kept = torch.tensor(stays, dtype=torch.bool)
    copies["tensors"] = {name: tensor[kept] for name, tensor in copies["tensors"].items()}
    copies["patients"] = [patient for patient, stay in zip(copies["patients"], stays, strict=True) if stay]
    return len(stays) - sum(stays)


def unattributed(tree: Any) -> int:
    """Patches in the state of strategies that belong to nobody who is named.

    Beside exemplars and copies without a patient these are tensors of int16 with four axes or more that lie elsewhere:
    voxels as stored. What a plugin made of voxels (floats, importances, prototypes) is not known as theirs.
    """
    if isinstance(tree, Tensor):
        voxels = tree.dtype == torch.int16 and tree.ndim >= 4
        return (len(tree) if tree.ndim > 4 else 1) if voxels else 0
    if isinstance(tree, dict):
        if tree.get("kind") == rows.KIND:
            return sum(not row["patient"] for row in tree["rows"])
        if tree.get("kind") == KIND:
            return sum(not patient for patient in tree["patients"])
        tree = list(tree.values())
    return sum(map(unattributed, tree)) if isinstance(tree, list) else 0
