"""What an optimizer step is computed with: fused optimizers, a compiled network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from lifelong_ct.core.errors import LifelongCTError

Make = Callable[[Any], torch.optim.Optimizer]


def fusing(make: Make, wanted: bool | str, device: torch.device) -> Make:
    """An optimizer that updates all parameters in one kernel, where that is wanted and it can.

    Args:
        make: makes an optimizer from parameters, such as a `partial` of one of `torch.optim`.
        wanted: `trainer.fused`: auto (on CUDA; on the CPU its roundings differ from those of the loop over parameters), true or
            false.
        device: of the parameters.

    Raises:
        LifelongCTError: true, and the optimizer has no such kernel.
    """
    kind: Any = make.func if isinstance(make, partial) else make
    said = make.keywords if isinstance(make, partial) else {}
    can = "fused" in inspect.signature(kind).parameters
    if wanted is True and not can:
        raise LifelongCTError(
            f"{getattr(kind, '__name__', kind)} has no fused kernel",
            "trainer.fused",
            "use auto or false, or AdamW, Adam, SGD or Adagrad of torch.optim",
        )
    exclusive = {"fused", "foreach", "differentiable"} & {
        key for key, value in said.items() if value is not None
    }
    if not can or exclusive or wanted is False or (wanted == "auto" and device.type != "cuda"):
        return make
    fused: Make = partial(make, fused=True)  # type: ignore[call-arg]
    return fused


def load(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`optimizer.load_state_dict`, but it stays as it was made: fused or not, whatever the state is of."""
    made = [group.get("fused") for group in optimizer.param_groups]
    groups = [
        {**group, "fused": fused} if "fused" in group else group
        for group, fused in zip(state["param_groups"], made, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


def compile_network(model: nn.Module, backend: str = "inductor") -> None:
    """Compiles a network's backbone in place: the names of its weights stay, its head may grow.

    Copies of the model (teachers) are not compiled. Hooks that strategies put on its layers are heard: PyTorch leaves out
    those that come after a module was compiled, unless it is told to look, and compiles anew where they change.

    Args:
        model: a `SegmentationModel`.
        backend: of `torch.compile`.

    Raises:
        LifelongCTError: the model has parts per experience.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise LifelongCTError(
            f"a {type(model).__name__} changes what it computes with every experience and is not compiled",
            "trainer.compile",
            "use trainer.compile=false with this strategy",
        )
    import torch._dynamo as dynamo  # slow, and most runs do without

    dynamo.config.skip_nnmodule_hook_guards = False
    backbone.compile(backend=backend)
