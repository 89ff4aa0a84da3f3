"""Attributes of stock plugins as tensors and JSON values, and back."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from avalanche.training.utils import ParamData

_JSON = (str, int, float, bool, type(None))


def can_encode(value: Any) -> bool:
    """Whether `encode` keeps all of it."""
    if isinstance(value, (*_JSON, torch.Tensor, ParamData)):
        return True
    if isinstance(value, dict):
        return all(isinstance(key, (str, int)) for key in value) and all(map(can_encode, value.values()))
    return isinstance(value, (list, tuple)) and all(map(can_encode, value))


def encode(value: Any) -> Any:
    """Attributes of stock plugins → tensors and JSON values; dictionaries keep the type of their keys."""
    if isinstance(value, ParamData):
        return {"__param__": value.name, "data": value.data.detach().clone()}
    if isinstance(value, dict):
        kind = "defaultdict" if isinstance(value, defaultdict) else "dict"
        return {"__dict__": kind, "keys": list(value), "values": [encode(v) for v in value.values()]}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, dict) and "__param__" in value:
        data = value["data"]
        return ParamData(value["__param__"], data.shape, init_tensor=data, device=data.device)
    if isinstance(value, dict) and "__dict__" in value:
        plain = dict(zip(value["keys"], map(decode, value["values"]), strict=True))
        return defaultdict(dict, plain) if value["__dict__"] == "defaultdict" else plain
    return [decode(item) for item in value] if isinstance(value, list) else value


def on_device(tree: Any, device: torch.device) -> Any:
    """What is encoded, with its tensors on a device."""
    if isinstance(tree, torch.Tensor):
        return tree.to(device)
    if isinstance(tree, dict):
        return {key: on_device(value, device) for key, value in tree.items()}
    return [on_device(item, device) for item in tree] if isinstance(tree, list) else tree
