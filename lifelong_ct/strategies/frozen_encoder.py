"""A frozen encoder: after the first hospital only decoder and head learn."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.strategies.freezing import freeze
from lifelong_ct.strategies.taps import GRIDDED, watched

_GRIDDED = (*GRIDDED, nn.PReLU)


class FrozenEncoder(StrategyPlugin):
    """A bound: what is learnt of the first hospital in the encoder stays as it is.

    The "feature extraction" that Li & Hoiem, "Learning without Forgetting", TPAMI 2018 (arXiv 1606.09282),
    section 2, compare with, here with the decoder left to learn. Running statistics of its normalisation stay too.

    Which parameters are the encoder is found by running the model once on a patch of zeros: those of every layer
    that runs up to the last convolution, normalisation or activation whose output lies on the coarsest grid. So it is the way down, the bottom, what
    a skip connection passes through before it, and a projection that runs at the bottom before it is upsampled (one
    1×1×1 convolution of SegResNet). A model whose last such layer lies on the coarsest grid has no encoder. Bytes:
    none.

    Args:
        encoder: None for this rule, else names of parameters, with `*` and `?` as wildcards.
    """

    distributed = True

    def __init__(self, encoder: Sequence[str] | None = None) -> None:
        super().__init__()
        if isinstance(encoder, str) or (encoder is not None and not encoder):
            raise LifelongCTError(
                f"encoder={encoder!r}", "strategy.plugins", "write a list of names, or null for the rule"
            )
        self.encoder = encoder
        self._frozen: list[nn.Module] = []

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Looks for the encoder, and freezes it from the second experience on."""
        size = (1, self.context.channels, *self.context.patch)
        names = encoder_parameters(strategy.model, torch.zeros(size, device=strategy.device), self.encoder)
        if strategy.clock.train_exp_counter > 0:
            freeze(strategy.model, names)
            self._frozen = [m for m in strategy.model.modules() if _is_frozen_norm(m)]

    def state_within(self) -> dict[str, Any]:
        """What is frozen is found at the start of the experience."""
        return {}

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """`model.train()` came before this."""
        for module in self._frozen:
            module.eval()


def encoder_parameters(model: nn.Module, x: torch.Tensor, patterns: Sequence[str] | None = None) -> set[str]:
    """Names of the encoder's parameters.

    Args:
        model: voxels → logits.
        x: a patch `[1,C,D,H,W]`; what it shows does not matter.
        patterns: see `FrozenEncoder`.

    Raises:
        LifelongCTError: there are none, or a pattern matches none.
    """
    every = [name for name, _ in model.named_parameters()]
    if patterns is not None:
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in every):
                shown = ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name in every))
                raise LifelongCTError(
                    f"no parameter is called {pattern}", "strategy.plugins", f"the model has {shown}"
                )
        return {name for name in every if any(fnmatchcase(name, pattern) for pattern in patterns)}
    ran = _run(model, x)
    sizes = [voxels for _, voxels in ran if voxels]
    last = max((i for i, (_, voxels) in enumerate(ran) if voxels == min(sizes)), default=-1)
    if not any(voxels for _, voxels in ran[last + 1 :]):
        raise LifelongCTError(
            "the model has no encoder: its last layer lies on its coarsest grid",
            "model",
            "use another model, name the encoder's parameters (strategy.plugins.0.encoder), or strategy=naive",
        )
    owned = {id(p) for module, _ in ran[: last + 1] for p in module.parameters(recurse=False)}
    return {name for name, p in model.named_parameters() if id(p) in owned}


def _run(model: nn.Module, x: torch.Tensor) -> list[tuple[nn.Module, int]]:
    """The modules with parameters of their own as they run, and the voxels of the output of `_GRIDDED`."""
    ran: list[tuple[nn.Module, int]] = []

    def see(module: nn.Module, output: Any) -> None:
        grid = output.shape[2:] if isinstance(module, _GRIDDED) else ()
        ran.append((module, grid.numel() if grid else 0))

    own = ((m, m) for m in model.modules() if next(m.parameters(recurse=False), None) is not None)
    was_training = model.training
    model.eval()
    try:
        with watched(own, see), torch.no_grad():
            model(x)
    finally:
        model.train(was_training)
    return ran


def _is_frozen_norm(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    running = isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
    return running and bool(own) and not any(p.requires_grad for p in own)
