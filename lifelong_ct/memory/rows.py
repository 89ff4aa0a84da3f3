"""Exemplars as JSON values and tensors, for checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def of_descriptor(gone: Descriptor) -> list[Any]:
    """A descriptor of what is gone."""
    return [gone.id, gone.nbytes, gone.hospital, _of_description(gone.description)]


def to_descriptor(row: list[Any]) -> Descriptor:
    """The descriptor of `of_descriptor`."""
    return Descriptor(row[0], row[1], row[2], gone=True, description=_to_description(row[3]))


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


def states(tree: Any) -> Iterator[dict[str, Any]]:
    """The states of exemplar memories in nested dicts and lists."""
    if isinstance(tree, dict) and tree.get("kind") == KIND:
        yield tree
    elif isinstance(tree, (dict, list)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from states(value)
