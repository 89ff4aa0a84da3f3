"""What plugins of a strategy hold, by kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from lifelong_ct.strategies.quadratic import QuadraticPenalty

_DEPTH = 4


def held_by(plugins: Iterable[Any]) -> Iterator[tuple[str, list[Tensor]]]:
    """Kind and tensors that plugins have as attributes, in whatever they have as attributes."""
    for plugin in plugins:
        for name, value in vars(plugin).items():
            if name == "context":
                continue
            tensors = list(_tensors(value, _DEPTH))
            if tensors:
                yield _kind(plugin, name, value), tensors


def _kind(plugin: Any, name: str, value: Any) -> str:
    if isinstance(value, nn.Module):
        return "teacher"
    if isinstance(plugin, QuadraticPenalty) or "importance" in name or "fisher" in name:
        return "Fisher and importances"
    return "strategy"


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.state_dict(keep_vars=True).values()
    elif depth and isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each, depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each, depth - 1)
    elif depth and type(value).__module__.startswith("lifelong_ct.strategies"):
        for each in vars(value).values():
            yield from _tensors(each, depth - 1)
