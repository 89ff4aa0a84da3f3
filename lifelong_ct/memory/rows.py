"""Exemplars as JSON values and tensors, for checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lifelong_ct.memory.parts import Exemplar, Origin, Packed
from lifelong_ct.memory.selection import Description, Descriptor

KIND = "exemplar memory"
"""Tells the state of a memory among those of a strategy."""


def of_exemplar(exemplar: Exemplar) -> dict[str, Any]:
    """Everything but its bytes."""
    origin = exemplar.origin
    return {
        "id": exemplar.id,
        "parts": {name: [p.nbytes, list(p.shape), p.dtype] for name, p in exemplar.parts.items()},
        "hospital": origin.hospital,
        "case": origin.case,
        "patient": origin.patient,
        "corner": None if origin.corner is None else list(origin.corner),
        "description": _of_description(exemplar.description),
    }


def to_exemplar(row: Mapping[str, Any]) -> Exemplar:
    """The exemplar of `of_exemplar`."""
    parts = {name: Packed(size, tuple(shape), dtype) for name, (size, shape, dtype) in row["parts"].items()}
    corner = None if row["corner"] is None else (row["corner"][0], row["corner"][1], row["corner"][2])
    origin = Origin(row["hospital"], row["case"], row["patient"], corner)
    return Exemplar(row["id"], parts, origin, _to_description(row["description"]))


def of_gone(gone: Descriptor, patient: str) -> list[Any]:
    """A descriptor of what is gone, and whose it was."""
    return [gone.id, gone.nbytes, gone.hospital, _of_description(gone.description), patient]


def to_gone(row: list[Any]) -> tuple[Descriptor, str]:
    """What `of_gone` was made from."""
    return Descriptor(row[0], row[1], row[2], gone=True, description=_to_description(row[3])), row[4]


def without(memory: dict[str, Any], patients: Collection[str]) -> tuple[int, bool]:
    """Takes the exemplars of patients out of the state of a memory, as `ExemplarMemory.remove` does.

    Returns:
        How many exemplars, and whether anything changed.
    """
    stays = [row["patient"] not in patients for row in memory["rows"]]
    for key in ("rows", "blobs"):
        if key in memory:
            memory[key] = [value for value, kept in zip(memory[key], stays, strict=True) if kept]
    told = [row for row in memory["gone"] if row[4] in patients]
    for row in told:
        row[3:] = [_of_description(Description()), ""]
    removed = len(stays) - sum(stays)
    return removed, bool(removed or told)


def to_tensor(data: bytes) -> Tensor:
    """uint8 `[n]`."""
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def to_bytes(tensor: Tensor) -> bytes:
    """The bytes of `to_tensor`."""
    return tensor.numpy().tobytes()


def _of_description(description: Description) -> dict[str, Any]:
    vectors = {
        name: torch.from_numpy(np.array(v, dtype=np.float32)) for name, v in description.vectors.items()
    }
    return {"organs": dict(description.organs), "scores": dict(description.scores), "vectors": vectors}


def _to_description(row: Mapping[str, Any]) -> Description:
    vectors = {name: tensor.numpy() for name, tensor in row["vectors"].items()}
    return Description(dict(row["organs"]), dict(row["scores"]), vectors)


def states(tree: Any, kind: str = KIND) -> Iterator[dict[str, Any]]:
    """The states of exemplar memories, or of another kind, in nested dicts and lists."""
    if isinstance(tree, dict) and tree.get("kind") == kind:
        yield tree
    elif isinstance(tree, (dict, list)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from states(value, kind)
