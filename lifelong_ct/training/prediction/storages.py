"""Every storage that tensors make while something runs: its size, when it came and went, and what it was for."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TEMPORARIES = "temporaries"
_NUMBER = torch.ops.aten._local_scalar_dense.default
_ASKING = (_NUMBER, torch.ops.aten.allclose.default, torch.ops.aten.equal.default)
"""Operations that answer with what a tensor without data does not have."""
WORKSPACE = "workspace of an operation"


@dataclass
class Held:
    """One storage.

    Attributes:
        nbytes: of it.
        born: number of the operation that made it.
        kind: what it is for.
        died: number of the operation after which it was gone; None while it is there.
    """

    nbytes: int
    born: int
    kind: str = TEMPORARIES
    died: int | None = None


@dataclass
class Phase:
    """A part of what runs.

    Attributes:
        name: of it.
        peak: most bytes held in it.
        at: number of the operation at which that was.
        inside: bytes of `peak` that only that operation held.
    """

    name: str
    peak: int = 0
    at: int = 0
    inside: int = 0


class Storages(TorchDispatchMode):
    """Counts storages of CPU tensors, with data or without; one that was there before counts from its first use on.

    Args:
        inside: bytes that an operation holds while it works, beside what it takes and gives; see `workspaces`.

    Attributes:
        now: bytes held.
        clock: number of operations so far.
        phases: in order; `begin` starts one.
    """

    def __init__(self, inside: Callable[[Any, tuple[Any, ...]], int] = lambda func, args: 0) -> None:
        super().__init__()
        self.now = self.clock = 0
        self.phases = [Phase("start")]
        self._inside = inside
        self._here: dict[int, Held] = {}
        self._all: list[Held] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _ASKING and isinstance(args[0], FakeTensor):
            return True if func is not _NUMBER else _some_value(args[0].dtype)
        out = func(*args, **(kwargs or {}))
        self.clock += 1
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        more = self._inside(func, args)
        if more:
            self._reach(more)
        return out

    def begin(self, name: str) -> None:
        """From now on it is this phase."""
        self.phases.append(Phase(name))
        self._reach(0)

    def see(self, tensor: Tensor) -> Held:
        """Counts the storage of a tensor, if it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        held = self._here.get(key)
        if held is None:
            held = self._here[key] = Held(storage.nbytes(), self.clock)
            self._all.append(held)
            weakref.finalize(storage, self._gone, key).atexit = False
            self.now += held.nbytes
            self._reach(0)
        return held

    def leave_out(self, tensor: Tensor) -> None:
        """Takes the storage of a tensor as one that no allocator gave."""
        held = self.see(tensor)
        self.now -= held.nbytes
        held.nbytes = 0

    def name(self, kind: str, tensors: Iterable[Tensor], only: str | None = None) -> None:
        """Says what tensors are for; where `only` is given, of those that were said to be that."""
        for tensor in tensors:
            held = self.see(tensor)
            if only is None or held.kind == only:
                held.kind = kind

    def name_since(self, kind: str, clock: int) -> None:
        """Says what those are for that came after that operation, are still here, and nobody has named."""
        for held in self._here.values():
            if held.born > clock and held.kind == TEMPORARIES:
                held.kind = kind

    def kinds(self, phase: Phase) -> dict[str, int]:
        """Kind → bytes at the moment of a phase's peak; their sum is the peak."""
        found = {WORKSPACE: phase.inside} if phase.inside else {}
        for held in self._all:
            if held.born <= phase.at and (held.died is None or held.died >= phase.at):
                found[held.kind] = found.get(held.kind, 0) + held.nbytes
        return found

    def _reach(self, more: int) -> None:
        phase = self.phases[-1]
        if self.now + more > phase.peak:
            phase.peak, phase.at, phase.inside = self.now + more, self.clock, more

    def _gone(self, key: int) -> None:
        held = self._here.pop(key)
        held.died = self.clock
        self.now -= held.nbytes


def _some_value(dtype: torch.dtype) -> float | int | bool:
    """In place of a number that is not there: 1, which nothing that divides by it minds."""
    if dtype == torch.bool:
        return True
    return 1.0 if dtype.is_floating_point else 1
