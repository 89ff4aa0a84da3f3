"""Takes back what an optimizer step has changed before the weights move, so that it can be made again."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.models.parts import PartedModel

Undo = Callable[[], None]
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def mark(model: nn.Module, plugins: Iterable[Any]) -> Undo:
    """What brings everything back to how it is now: the global generators, the model's buffers and hooks, the plugins.

    Of a plugin, a stock one's inner one too, every attribute is bound again to what it is bound to now, and lists,
    dicts, sets and deques get their content of now; what has a `mark` (`Undoable`) of its own goes back by that. Tensors
    are not copied: a plugin changes its own in place only after the backward pass.

    Args:
        model: in training.
        plugins: of the strategy.
    """
    undos = [*generators(), _buffers(model), _hooks(model), *map(_attributes, _with_inner(plugins))]

    def undo() -> None:
        for each in undos:
            each()

    return undo


def generators() -> list[Undo]:
    """Of Python, NumPy and PyTorch, on the CPU and on the GPUs that are in use."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - stock plugins
    undos: list[Undo] = [
        lambda: random.setstate(python),
        lambda: np.random.set_state(numpy),  # noqa: NPY002
        lambda: torch.set_rng_state(cpu),
    ]
    if torch.cuda.is_initialized():
        cuda = torch.cuda.get_rng_state_all()
        undos.append(lambda: torch.cuda.set_rng_state_all(cuda))
    return undos


def _buffers(model: nn.Module) -> Undo:
    """Not of what a model holds of all hospitals."""
    changing = model.changing() if isinstance(model, PartedModel) else model.modules()
    kept = [
        (buffer, buffer.detach().clone()) for module in changing for buffer in module.buffers(recurse=False)
    ]

    def undo() -> None:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)

    return undo


def _hooks(model: nn.Module) -> Undo:
    """Hooks are numbered as they come: what was hooked later goes."""
    first = RemovableHandle.next_id

    def undo() -> None:
        for module in model.modules():
            for kind in _HOOKS:
                hooks = getattr(module, kind)
                for number in [number for number in hooks if number >= first]:
                    del hooks[number]

    return undo


def _attributes(plugin: Any) -> Undo:
    bound = dict(vars(plugin))
    undos = [found for value in bound.values() for found in _content(value)]

    def undo() -> None:
        vars(plugin).clear()
        vars(plugin).update(bound)
        for each in undos:
            each()

    return undo


def _content(value: Any) -> Iterator[Undo]:
    if isinstance(value, (list, deque)):
        yield partial(_refill, value, value.extend, tuple(value))
    elif isinstance(value, (dict, set)):
        yield partial(_refill, value, value.update, value.copy())
    elif hasattr(type(value), "mark"):
        yield value.mark()


def _refill(container: Any, fill: Callable[[Any], None], content: Any) -> None:
    container.clear()
    fill(content)


def _with_inner(plugins: Iterable[Any]) -> Iterator[Any]:
    for plugin in plugins:
        yield plugin
        inner = getattr(plugin, "plugin", None)
        if isinstance(inner, SupervisedPlugin):
            yield inner
