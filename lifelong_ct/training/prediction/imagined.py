"""Tensors without data in place of hospitals, patches, exemplars and weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.data import Dataset

from lifelong_ct.avalanche_bridge.plugin import StrategyContext
from lifelong_ct.core.protocols import Batch
from lifelong_ct.memory.exemplars import ExemplarMemory, Offer
from lifelong_ct.memory.parts import Exemplar, Packed
from lifelong_ct.memory.selection import SelectionPolicy


class ImaginedPatches(Dataset[Any]):
    """A hospital whose patches show nothing; a dataset and a PatchSource.

    Args:
        shape: of a batch, `(B, C, D, H, W)`.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape, self._drawn = tuple(shape), 0
        self.patients = ["patient"] * len(self)

    def __len__(self) -> int:
        return 2 * self.shape[0]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._made(self.shape[1:])

    def batch(self, step: int) -> Batch:
        count = self.shape[0]
        self._drawn += 1
        return Batch(*self._made(self.shape), ["case"] * count, ["patient"] * count, [(0, 0, 0)] * count)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return map(self.batch, range(start, stop))

    def _made(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        *more, _, d, h, w = shape
        hu = 16 * (self._drawn % 16)  # of patches with the same voxels an exemplar memory keeps one
        labels = torch.zeros((*more, 1, d, h, w), dtype=torch.uint8)
        return torch.full(tuple(shape), hu, dtype=torch.int16), labels


class ImaginedMemory(ExemplarMemory):
    """An exemplar memory that is full: it keeps nothing of what it is offered but its form."""

    _last: dict[str, tuple[Exemplar, dict[str, torch.dtype]]]

    def offer_all(self, offers: Sequence[Offer]) -> int:
        """Remembers what the last patch of each hospital is like."""
        shared = [offer for offer in offers if self.allows(offer[1].hospital, tuple(offer[0]))]
        for parts, origin, said in shared:
            known = {name: Packed(0, tuple(t.shape), str(t.dtype)) for name, t in parts.items()}
            kinds = {name: t.dtype for name, t in parts.items()}
            self._last[origin.hospital] = Exemplar("imagined", known, origin, said), kinds
        return len(shared)

    def draw(
        self, count: int, rng: np.random.Generator, without: str | None = None
    ) -> list[tuple[Exemplar, dict[str, Tensor]]]:
        """Empty tensors of the form of the last patch of another hospital."""
        others = [last for name, last in self._last.items() if name != without]
        self.drawn += count if others else 0
        return [self._empty(*others[-1]) for _ in range(count)] if others else []

    def held(self) -> Iterator[tuple[Exemplar, dict[str, Tensor]]]:
        """One of each hospital."""
        return (self._empty(*last) for last in self._last.values())

    def describe(self, said: Mapping[str, Any]) -> None:
        """What it holds has no description of its own."""

    def held_bytes(self) -> dict[str, int]:
        return {"exemplars": self.budget}

    @staticmethod
    def _empty(known: Exemplar, kinds: Mapping[str, torch.dtype]) -> tuple[Exemplar, dict[str, Tensor]]:
        return known, {name: torch.zeros(known.parts[name].shape, dtype=kinds[name]) for name in kinds}


class ImaginedContext(StrategyContext):
    """What a run lends to plugins that only rehearse it."""

    def exemplars(self, selection: SelectionPolicy) -> ExemplarMemory:
        made = super().exemplars(selection)
        made.__class__, made._last = ImaginedMemory, {}  # type: ignore[attr-defined]
        return made


class Valueless(TorchFunctionMode):
    """Where arrays are asked of tensors without data they get ones; where tensors are made of arrays they lose them.

    Args:
        mode: that the tensors belong to.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self.mode = mode

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.numpy, Tensor.__array__) and isinstance(args[0], FakeTensor):
            with _disable_current_modes():
                return torch.ones(args[0].shape, dtype=args[0].dtype).numpy()
        if func is Tensor.__deepcopy__:
            return _copied(*args)
        out = func(*args, **(kwargs or {}))
        if func is torch.from_numpy:
            return self.mode.from_tensor(out)
        return out


def _copied(value: Tensor, memo: dict[int, Any]) -> Tensor:
    """PyTorch's own deep copy of a tensor looks at its data, or sets its storage, which has none here."""
    if id(value) not in memo:
        made = value.detach().clone()
        memo[id(value)] = nn.Parameter(made, value.requires_grad) if isinstance(value, nn.Parameter) else made
    found: Tensor = memo[id(value)]
    return found


@contextmanager
def staying() -> Iterator[None]:
    """Meanwhile `module.to(device)` does nothing: all devices are one here, and modules cannot be moved whose tensors
    somebody watches."""
    before = nn.Module.to

    def to(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        _, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        return self if dtype is None and layout is None else before(self, *args, **kwargs)

    nn.Module.to = to  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.to = before  # type: ignore[method-assign]


def emptied(model: nn.Module) -> nn.Module:
    """Its parameters and buffers as new tensors of the same layout: without data inside a `FakeTensorMode`, else copies."""
    shared: dict[int, Tensor] = {}
    for module in model.modules():
        for tree in (module._parameters, module._buffers):
            for name, value in tree.items():
                if value is not None:
                    tree[name] = shared.setdefault(id(value), _like(value))  # type: ignore[assignment]
    return model


def _like(value: Tensor) -> Tensor:
    made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
    if not isinstance(made, FakeTensor):
        made.copy_(value.detach())
    return nn.Parameter(made, value.requires_grad) if isinstance(value, nn.Parameter) else made
