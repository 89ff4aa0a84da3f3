"""Where a network can be cut in two, so that the rest needs nothing but what passes the cut."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.strategies.taps import GRIDDED

_GRIDDED = (*GRIDDED, nn.PReLU)
_KEY = "strategy.plugins.cut"
Edge = tuple[Any, int]
"""A result in the graph: its function, and which of the results of that."""


@dataclass(frozen=True)
class Cut:
    """Feature maps that are all that the rest of a network needs.

    Attributes:
        sites: where they come from: a module's name, as in `named_modules`, and which of its outputs.
        shapes: of each for one patch, `(F, d, h, w)`.
        below: names of the parameters that they are made with.
        norms: names of the normalisations with running statistics that run before them.
    """

    sites: tuple[tuple[str, int], ...]
    shapes: tuple[tuple[int, ...], ...]
    below: frozenset[str]
    norms: tuple[str, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """The finest of their grids, `(d, h, w)`."""
        return max((shape[1:] for shape in self.shapes), key=lambda grid: grid[0] * grid[1] * grid[2])


@dataclass
class _Ended:
    """A module that ended: when, and of each of its outputs the shape (empty for what is no tensor) and the place in
    the graph. Not the outputs themselves: all at once they would take more than a training step."""

    when: int
    name: str
    module: nn.Module
    shapes: list[tuple[int, ...]]
    edges: list[Edge]


@dataclass
class _Trace:
    """A run of the model: which modules started and ended in which order, and what came out."""

    x: Tensor
    output: Tensor
    started: dict[str, int] = field(default_factory=dict)
    ended: list[_Ended] = field(default_factory=list)


def find_cut(model: nn.Module, shape: Sequence[int], before: str | None = None) -> Cut:
    """Cuts a network between its way down and its way up, or just before a module starts.

    The model is run once on noise, and the graph of its output is followed back, until each way meets the output of a
    module that had ended at the cut: in a U-Net the bottom and each skip connection. The bottom is the last layer whose
    output has the coarsest grid, as in `FrozenEncoder`. Then the cut is tried: what passes it for one patch, put in place
    while another runs, must give the answer to the first.

    Args:
        model: voxels → logits.
        shape: `(C, D, H, W)` of a patch.
        before: name of a module, None for the bottom.

    Raises:
        LifelongCTError: no module is called so; or the voxels themselves pass there, or what does is not the output of a
            module that runs once.
    """
    if before is not None and before not in dict(model.named_modules()):
        shown = ", ".join(n for n, _ in model.named_modules() if n and n.count(".") < 3)
        raise LifelongCTError(f"the network has no module {before}", _KEY, f"use one of {shown}")
    trace = _run(model, shape)
    cut = _cut(model, trace, _bottom(trace) if before is None else trace.started.get(before, -1))
    if cut is None or not _whole(model, cut, shape):
        raise LifelongCTError(
            f"the network cannot be cut {'at its bottom' if before is None else f'before {before}'}: its voxels pass "
            "there, or what passes is no output of a module",
            _KEY,
            "name another module, e.g. head",
        )
    return cut


@contextmanager
def spliced(model: nn.Module, cut: Cut, see: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Meanwhile what `see` makes of the i-th feature maps of the cut, `[B,F,d,h,w]`, goes on in their place."""

    def hook(module: nn.Module, args: Any, output: Any, which: dict[int, int]) -> Any:
        if isinstance(output, Tensor):
            return see(which[0], output)
        return type(output)(see(which[k], each) if k in which else each for k, each in enumerate(output))

    with ExitStack() as hooks:
        for name in dict(cut.sites):
            which = {k: i for i, (site, k) in enumerate(cut.sites) if site == name}
            module = model.get_submodule(name)
            handle = module.register_forward_hook(lambda m, a, o, which=which: hook(m, a, o, which))
            hooks.callback(handle.remove)
        yield


def _run(model: nn.Module, shape: Sequence[int]) -> _Trace:
    x = _noise(model, shape, 0).requires_grad_()
    trace, clock, was_training = _Trace(x, x), itertools.count(), model.training

    def start(name: str) -> None:
        trace.started[name] = next(clock)

    def end(name: str, module: nn.Module, output: Any) -> None:
        several = output if isinstance(output, (list, tuple)) else [output]
        shapes = [tuple(each.shape) if isinstance(each, Tensor) else () for each in several]
        edges = [
            (each.grad_fn, each.output_nr) if isinstance(each, Tensor) else (None, 0) for each in several
        ]
        trace.ended.append(_Ended(next(clock), name, module, shapes, edges))

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            before = module.register_forward_pre_hook(lambda m, a, n=name: start(n))
            after = module.register_forward_hook(lambda m, a, o, n=name: end(n, m, o))
            hooks.callback(before.remove)
            hooks.callback(after.remove)
        with torch.enable_grad():
            trace.output = model.eval()(x)
    model.train(was_training)
    return trace


def _bottom(trace: _Trace) -> int:
    sizes = [(math.prod(e.shapes[0][2:]), e.when) for e in trace.ended if isinstance(e.module, _GRIDDED)]
    coarsest = min((size for size, _ in sizes), default=0)
    return max((when for size, when in sizes if size == coarsest), default=-1)


def _cut(model: nn.Module, trace: _Trace, moment: int) -> Cut | None:
    """None where voxels pass."""
    own = {id(p): name for name, p in model.named_parameters()}
    ran = Counter(each.name for each in trace.ended)
    sites: dict[Edge, tuple[str, int, tuple[int, ...]]] = {}
    norms = []
    for each in itertools.takewhile(lambda e: e.when <= moment, trace.ended):
        if isinstance(each.module, _NormBase) and each.module.track_running_stats:
            norms.append(each.name)
        for k, (shape, edge) in enumerate(zip(each.shapes, each.edges, strict=True)):
            if ran[each.name] == 1 and edge[0] is not None and len(shape) == 5 and shape[0] == 1:
                sites[edge] = (each.name, k, shape[1:])  # a later one is the outer module
    passed, leaves = _back([(trace.output.grad_fn, trace.output.output_nr)], sites)
    made = all(_back([edge], {})[1] & own.keys() for edge in passed)
    if not passed or not made or id(trace.x) in leaves:
        return None
    found = sorted((sites[edge] for edge in passed), key=lambda site: (trace.started[site[0]], site[1]))
    below = frozenset(name for i, name in own.items() if i not in leaves)
    return Cut(tuple(s[:2] for s in found), tuple(s[2] for s in found), below, tuple(norms))


def _back(ahead: list[Edge], stops: Any) -> tuple[set[Edge], set[int]]:
    """Which of the stops the ways back in the graph meet first, and the ids of the leaves where the others end."""
    seen: set[Edge] = set()
    met, leaves = set(), set()
    while ahead:
        edge = ahead.pop()
        if edge in seen or edge[0] is None:
            continue
        seen.add(edge)
        if edge in stops:
            met.add(edge)
            continue
        if hasattr(edge[0], "variable"):
            leaves.add(id(edge[0].variable))
        ahead += edge[0].next_functions
    return met, leaves


@torch.no_grad()
def _whole(model: nn.Module, cut: Cut, shape: Sequence[int]) -> bool:
    """Whether the rest of the network needs nothing else."""
    was_training = model.training
    model.eval()
    kept: dict[int, Tensor] = {}
    with spliced(model, cut, lambda i, own: kept.setdefault(i, own.clone()).clone()):
        answer = model(_noise(model, shape, 0))
    with spliced(model, cut, lambda i, own: kept[i].clone()):
        again = model(_noise(model, shape, 1))
    model.train(was_training)
    return torch.allclose(answer, again, rtol=1e-3, atol=1e-4)


def _noise(model: nn.Module, shape: Sequence[int], seed: int) -> Tensor:
    drawn = 100 * torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))
    return drawn.to(next(model.parameters()).device)
