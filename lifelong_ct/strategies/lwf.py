"""Learning without forgetting, per voxel."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes
from lifelong_ct.core.errors import LifelongCTError


class LwF(StrategyPlugin):
    """Keeps the answers of the old model on the new hospital's patches.

    Li & Hoiem, "Learning without Forgetting", TPAMI 2018 (arXiv 1606.09282), eq. 2-3: cross-entropy between
    the softened outputs of the old and the new model over the old channels, here the Kullback-Leibler
    divergence (equal up to a constant), times T² (Hinton et al., arXiv 1503.02531), and the mean over
    voxels instead of a sum, so that its weight does not depend on the patch size. The teacher is frozen
    and in eval mode. Bytes: one copy of the model.

    Args:
        lwf_lambda: weight of the distillation.
        temperature: T.
    """

    def __init__(self, lwf_lambda: float, temperature: float = 2.0) -> None:
        super().__init__()
        if (
            not all(isinstance(v, (int, float)) for v in (lwf_lambda, temperature))
            or lwf_lambda < 0
            or temperature <= 0
        ):
            raise LifelongCTError(
                f"lwf_lambda={lwf_lambda} and temperature={temperature}",
                "strategy.plugins",
                "write a weight of at least 0 and a temperature above 0",
            )
        self.lwf_lambda, self.temperature = lwf_lambda, temperature
        self.teacher: nn.Module | None = None

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The model of now becomes the teacher."""
        self._admit(strategy.model)
        strategy.model.zero_grad(set_to_none=True)  # a deep copy would copy the gradients too
        self._freeze(copy.deepcopy(strategy.model))

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds λ times the distillation loss to the undivided loss."""
        if self.teacher is None:
            return
        with torch.no_grad():
            old = strategy.forward_with(self.teacher)
        strategy.loss = strategy.loss + self.lwf_lambda * distillation(
            strategy.mb_output, old, self.temperature
        )

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return {"gpu": model_bytes}

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": None if self.teacher is None else dict(self.teacher.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["teacher"] is None:
            self.teacher = None
            return
        teacher = self.context.new_model()
        teacher.grow(state["teacher"]["head.bias"].shape[0])
        teacher.load_state_dict(state["teacher"])
        self._admit(teacher)
        self._freeze(teacher)

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": 0 if self.teacher is None else tensor_bytes(dict(self.teacher.state_dict()))}

    def _admit(self, model: nn.Module) -> None:
        self.context.ledger.admit("gpu", "LwF teacher", tensor_bytes(dict(model.state_dict())))

    def _freeze(self, teacher: nn.Module) -> None:
        self.teacher = teacher.eval().requires_grad_(False)


def distillation(new: Tensor, old: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(old/T) ‖ softmax(new/T)), the mean over batch and voxels.

    Args:
        new: logits `[B,C,D,H,W]`; channels after the old ones are left out.
        old: logits of the teacher `[B,C_old,D,H,W]`.
        temperature: T.
    """
    log_new = (new[:, : old.shape[1]].float() / temperature).log_softmax(1)
    log_old = (old.float() / temperature).log_softmax(1)
    return (log_old.exp() * (log_old - log_new)).sum(1).mean() * temperature**2
