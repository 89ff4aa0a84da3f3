"""Mean teacher: a moving average of the weights says what to keep."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.models.segmentation import GrowingHead
from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.teacher import TeacherPlugin, mean_inside


class EMATeacher(TeacherPlugin):
    """Keeps the model near the answers of a moving average of its weights, which forgets more slowly.

    Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017 (arXiv 1703.01780), section 2: the
    teacher's weights θ' ← α θ' + (1 - α) θ after every optimizer step, α at most 1 - 1/(n + 1) after n steps; the
    consistency cost E ‖f(x, θ') - f(x, θ)‖² of softmax outputs, the mean over channels (authors' code) and voxels
    without padding, weighed by exp(-5 (1 - t)²) while it ramps up. As a memory over a stream of tasks: Arani et al., ICLR 2022
    (arXiv 2201.12604), who also keep a moving average of the weights. It needs no boundaries. Buffers that are
    floats are averaged too, and new rows of the head start as the model's. Bytes: one copy of the model.

    Args:
        ema_lambda: largest weight of the consistency.
        decay: α.
        ramp_up: optimizer steps of the whole run until the weight is reached.
    """

    def __init__(self, ema_lambda: float = 1.0, decay: float = 0.999, ramp_up: int = 0) -> None:
        super().__init__()
        check_numbers(ema_lambda=ema_lambda, ramp_up=ramp_up)
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise LifelongCTError(f"decay={decay}", "strategy.plugins", "write a number from 0 to below 1")
        self.ema_lambda, self.decay, self.ramp_up = ema_lambda, decay, ramp_up

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """The first model is the first teacher; later the teacher's head grows with the model's. Not at the start
        of an experience: a stream without boundaries does not tell."""
        if self.teacher is None:
            self.teach(strategy.model)
        elif strategy.model.head.width > self.teacher.head.width:
            self._admit(strategy.model)
            for own, grown in zip(heads(self.teacher), heads(strategy.model), strict=True):
                append_rows(own, grown)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The teacher goes on."""

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds the weighted consistency to the undivided loss."""
        weight = self.ema_lambda * ramp(strategy.clock.train_iterations, self.ramp_up)
        apart = consistency(strategy.mb_output, self.answer(strategy), strategy.mb_y)
        strategy.loss = strategy.loss + weight * apart

    def state_within(self) -> dict[str, Any]:
        """The teacher moves with every step."""
        return self.state_dict()

    def load_state_within(self, state: dict[str, Any], strategy: Any) -> None:
        self.load_state_dict(state)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        """θ' ← α θ' + (1 - α) θ."""
        steps = strategy.clock.train_iterations + 1
        assert self.teacher is not None
        average(self.teacher, strategy.model, min(self.decay, 1 - 1 / (steps + 1)))


def ramp(step: int, steps: int) -> float:
    """exp(-5 (1 - t)²), t = step / steps up to 1."""
    return 1.0 if step >= steps else math.exp(-5 * (1 - step / steps) ** 2)


def consistency(new: Tensor, old: Tensor, y: Tensor | None = None) -> Tensor:
    """The mean over batch, channels and voxels of the squared difference of the softmax of logits `[B,C,D,H,W]`; of codes
    `y` the padding is left out, see `mean_inside`."""
    return mean_inside((new.float().softmax(1) - old.float().softmax(1)).square().mean(1), y)


@torch.no_grad()
def average(teacher: nn.Module, model: nn.Module, decay: float) -> None:
    """Moves the teacher's weights and float buffers; whole numbers are copied."""
    now = model.state_dict()
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            value.lerp_(now[name].to(value), 1 - decay)
        else:
            value.copy_(now[name])


def heads(model: nn.Module) -> list[GrowingHead]:
    """Those that grow, in order."""
    return [module for module in model.modules() if isinstance(module, GrowingHead)]


@torch.no_grad()
def append_rows(head: Any, grown: Any) -> None:
    """Gives a head the rows that a grown one has more; its own stay."""
    old = head.weight.shape[0]
    if grown.weight.shape[0] > old:
        for name in ("weight", "bias"):
            rows = torch.cat([getattr(head, name), getattr(grown, name)[old:]])
            setattr(head, name, nn.Parameter(rows, requires_grad=False))
