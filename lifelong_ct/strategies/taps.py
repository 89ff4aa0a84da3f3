"""Feature taps: activations inside a network, by hooks that leave it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from lifelong_ct.core.errors import LifelongCTError

Key = TypeVar("Key")
GRIDDED = (_ConvNd, _NormBase, nn.GroupNorm)
"""Layers whose output is `[B,C,D,H,W]`; those of transformers have other orders."""


class Taps:
    """Catches the outputs of named modules in forward passes of any model of the same architecture.

    Args:
        names: of the modules, as in `named_modules`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._handles: list[Any] = []
        self._passes: list[dict[str, Tensor]] = []

    def open(self, model: nn.Module) -> None:
        """Hooks the modules; `close` takes the hooks away, so that copies of the model have none."""
        self.close()
        modules = dict(model.named_modules())
        self._handles = [model.register_forward_pre_hook(lambda module, args: self._passes.append({}))]
        self._handles += [modules[name].register_forward_hook(self._catch(name)) for name in self.names]

    def close(self) -> list[Tensor]:
        """Unhooks. The activations `[B,F,d,h,w]` of the micro-batch, which may have come in several forward passes, in the
        order of `names`; where an activation function works in place, after it."""
        for handle in self._handles:
            handle.remove()
        passes, self._handles, self._passes = self._passes, [], []
        return [joined([p[name] for p in passes]) for name in self.names if passes and name in passes[0]]

    def _catch(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            self._passes[-1][name] = output

        return hook


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Samples of several passes; of one as they are."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def stage_ends(model: nn.Module, shape: Sequence[int]) -> list[str]:
    """The last convolution or normalisation of each stage, before the head, in order of execution.

    A stage is a run of feature maps of one resolution: in a U-Net those of each level on the way down, then of each on
    the way up. Tokens of a transformer are not tapped, but the convolutions that its decoder takes them through are.

    Args:
        model: voxels → logits, with its last layer called `head`; in eval mode, since it is run once.
        shape: `(C, D, H, W)` of a patch, tried without data.

    Raises:
        LifelongCTError: there is no such layer.
    """
    seen: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 5:
            seen.append((name, tuple(output.shape[2:])))

    tapped = (
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, GRIDDED) and not f"{name}.".startswith("head.")
    )
    with watched(tapped, note), torch.no_grad():
        model(torch.zeros((1, *shape), dtype=torch.int16, device=next(model.parameters()).device))
    following = [*(size for _, size in seen[1:]), ()]
    last = [name for (name, size), after in zip(seen, following) if size != after]
    if not last:
        raise LifelongCTError(
            "the network has no 3D convolution or normalisation to tap",
            "strategy.plugins.layers",
            "name the modules whose outputs are distilled",
        )
    return list(dict.fromkeys(last))


@contextmanager
def watched(modules: Iterable[tuple[Key, nn.Module]], see: Callable[[Key, Any], None]) -> Iterator[None]:
    """Meanwhile `see` is told each module's key and output, as they run."""

    def hook(key: Key) -> Any:
        return lambda module, args, output: see(key, output)

    handles = [module.register_forward_hook(hook(key)) for key, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
