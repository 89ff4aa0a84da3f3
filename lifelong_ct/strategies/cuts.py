"""Where a network can be cut in two, so that the rest needs nothing but what passes the cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.strategies.taps import GRIDDED

_GRIDDED = (*GRIDDED, nn.PReLU)
_KEY = "strategy.plugins.cut"


@dataclass(frozen=True)
class Cut:
    """A module whose inputs are all that it and everything after it need.

    Attributes:
        name: of the module, as in `named_modules`.
        shapes: of its inputs for one patch, `(F, d, h, w)` each.
        below: names of the parameters that act before it.
        norms: names of the normalisations with running statistics that run before it.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    below: frozenset[str]
    norms: tuple[str, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """The finest of its inputs' grids, `(d, h, w)`."""
        return max((shape[1:] for shape in self.shapes), key=lambda grid: grid[0] * grid[1] * grid[2])


@dataclass
class _Call:
    """One call of a module: what it was given, and which results that was in the graph, before anything changes it."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    edges: frozenset[tuple[Any, int]]
    voxels: int = 0


def find_cut(model: nn.Module, shape: Sequence[int], name: str | None = None) -> Cut:
    """The first cut on the way up, or the named one.

    The model is run once on noise, and the graph of its output is followed back. A module is a cut if, without what went
    into it, no way leads from the output to the voxels: so no skip connection passes beside it. On the way up it lies if
    it starts after the last layer whose output has the coarsest grid; in a U-Net it is the last stage of the
    decoder then. What the way back from the output meets before the cut learns, the other parameters are `below`.

    Args:
        model: voxels → logits, every parameter with a gradient.
        shape: `(C, D, H, W)` of a patch.
        name: of a module.

    Raises:
        LifelongCTError: no module is called so, or something passes beside it.
    """
    named = dict(model.named_modules())
    if name is not None and name not in named:
        inner = ", ".join(n for n in named if n.count(".") <= 2 and n)
        raise LifelongCTError(f"the network has no module {name}", _KEY, f"use one of {inner}")
    calls, x, output = _run(model, shape)
    bottom = min((call.voxels for call in calls if call.voxels), default=0)
    last = max((i for i, call in enumerate(calls) if call.voxels == bottom), default=-1)
    wanted = calls[last + 1 :] if name is None else [call for call in calls if call.name == name]
    for call in wanted:
        if call.edges and sum(other.name == call.name for other in calls) == 1:
            leaves = _leaves(output, call.edges)
            if id(x) not in leaves:
                return _cut(model, calls, call, leaves)
    if name is not None:
        raise LifelongCTError(
            f"something passes beside {name}, or it is not given feature maps once",
            _KEY,
            "name another module, or use null for the last stage of the decoder",
        )
    raise LifelongCTError(
        "the network cannot be cut in two", _KEY, "name a module through which everything passes"
    )


def _run(model: nn.Module, shape: Sequence[int]) -> tuple[list[_Call], Tensor, Tensor]:
    calls: list[_Call] = []
    open_calls: list[_Call] = []

    def start(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        maps = bool(args) and all(
            isinstance(a, Tensor) and a.ndim == 5 and a.grad_fn is not None for a in args
        )
        edges = frozenset((a.grad_fn, a.output_nr) for a in args) if maps else frozenset()
        calls.append(_Call(name, module, args, edges))
        open_calls.append(calls[-1])

    def end(module: nn.Module, output: Any) -> None:
        call = open_calls.pop()
        if isinstance(module, _GRIDDED) and output.ndim == 5:
            call.voxels = output[0, 0].numel()

    device = next(model.parameters()).device
    rng = torch.Generator().manual_seed(0)
    x = (100 * torch.randn((1, *shape), generator=rng)).to(device).requires_grad_()
    handles, was_training = [], model.training
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda m, a, n=name: start(n, m, a)))
        handles.append(module.register_forward_hook(lambda m, a, o: end(m, o)))
    try:
        with torch.enable_grad():
            output = model.eval()(x)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return calls, x, output


def _leaves(output: Tensor, edges: frozenset[tuple[Any, int]]) -> set[int]:
    """Ids of the leaf tensors that the output depends on otherwise than through these edges of the graph."""
    found, seen, ahead = set(), set(), [(output.grad_fn, output.output_nr)]
    while ahead:
        edge = ahead.pop()
        if edge in seen or edge in edges or edge[0] is None:
            continue
        seen.add(edge)
        if hasattr(edge[0], "variable"):
            found.add(id(edge[0].variable))
        ahead += edge[0].next_functions
    return found


def _cut(model: nn.Module, calls: Sequence[_Call], call: _Call, above: set[int]) -> Cut:
    before = [each for each in calls[: calls.index(call)] if isinstance(each.module, _NormBase)]
    return Cut(
        call.name,
        tuple(tuple(a.shape[1:]) for a in call.inputs),
        frozenset(name for name, p in model.named_parameters() if id(p) not in above),
        tuple(each.name for each in before if each.module.track_running_stats),
    )


@contextmanager
def spliced(model: nn.Module, cut: Cut, see: Any) -> Iterator[None]:
    """Meanwhile `see` is given the cut's inputs, a tuple of `[B,F,d,h,w]`, and may return others to go on with."""
    handle = model.get_submodule(cut.name).register_forward_pre_hook(lambda module, args: see(args))
    try:
        yield
    finally:
        handle.remove()
