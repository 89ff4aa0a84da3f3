"""The loop: Avalanche's hooks around optimizer steps on patches."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lifelong_ct.avalanche_bridge import EvaluationPlugin, SupervisedPlugin, SupervisedTemplate
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.protocols import Batch, PatchSource
from lifelong_ct.core.seeding import derive_seed
from lifelong_ct.training.augment import Augment

_ASIDE = 1 << 40
"""First step number of patches that no training step draws."""

AMP_TYPES = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class StepReport:
    """One optimizer step, for whoever watches."""

    step: int
    loss: float
    lr: float


class Learner(SupervisedTemplate):
    """One optimizer step is one Avalanche iteration, whatever the number of micro-batches.

    `before_training_iteration` fires before anything is accumulated; `before_backward` once per
    micro-batch with the undivided loss, which is divided afterwards; gradients are unscaled before
    `after_backward`, which fires once, before clipping.

    Args:
        model: voxels → logits, with `grow`.
        criterion: `(logits, y) → scalar`, a mean over samples.
        optimizer: makes an optimizer from parameters.
        width: the head's width for the present experience.
        plugins: Avalanche plugins.
        device: where to train.
        batch_size: samples per micro-batch.
        accumulate: micro-batches per optimizer step.
        amp: None, bf16 or fp16.
        clip: largest norm of the gradient, None for no clipping.
        schedule: constant or poly, (1 - t)^0.9 within an experience.
        reset_optimizer: a new optimizer for each experience.
        augment: applied to patches on the device.
        seed: of the run.
        on_step: told every optimizer step.

    Attributes:
        micro_step: number of the micro-batch within the optimizer step.
        mb_cases: content digests of the micro-batch's cases.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        criterion: nn.Module,
        optimizer: Callable[[Any], torch.optim.Optimizer],
        width: Callable[[], int],
        plugins: Sequence[SupervisedPlugin] = (),
        device: str = "cpu",
        batch_size: int = 2,
        accumulate: int = 1,
        amp: str | None = None,
        clip: float | None = None,
        schedule: str = "poly",
        reset_optimizer: bool = True,
        augment: Augment | None = None,
        seed: int = 0,
        on_step: Callable[[StepReport], None] = lambda report: None,
    ) -> None:
        if amp not in AMP_TYPES:
            raise LifelongCTError(f"{amp!r} is not a precision", "trainer.amp", "use null, bf16 or fp16")
        if schedule not in ("constant", "poly"):
            raise LifelongCTError(f"{schedule!r} is no schedule", "trainer.schedule", "use constant or poly")
        if amp == "fp16" and not str(device).startswith("cuda"):
            raise LifelongCTError("fp16 needs a GPU", "trainer.amp", "use bf16 on the CPU")
        super().__init__(
            model=model,
            optimizer=optimizer(model.parameters()),
            criterion=criterion,
            train_mb_size=batch_size,
            device=device,
            plugins=list(plugins),
            evaluator=EvaluationPlugin(),
        )
        self._make_optimizer, self._width = optimizer, width
        self.accumulate, self.amp, self.clip, self.schedule = accumulate, AMP_TYPES[amp], clip, schedule
        self.reset_optimizer, self.augment, self.seed, self.on_step = reset_optimizer, augment, seed, on_step
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp == "fp16")
        self.source: PatchSource | None = None
        self.steps, self.micro_step = 0, 0
        self.mb_cases: Sequence[str] = ()

    def learn(self, experience: Any, source: PatchSource, steps: int) -> None:
        """Trains one experience for `steps` optimizer steps on the patches of `source`."""
        self.source, self.steps = source, steps
        seed = derive_seed(self.seed, "experience", experience.current_experience) % 2**32
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - stock plugins draw from the global generators
        torch.manual_seed(seed)
        try:
            self.train([experience], eval_streams=[])
        finally:
            self.source = None

    def model_adaptation(self, model: Any = None) -> Any:
        """Grows the head to the organs seen."""
        model = self.model if model is None else model
        model.grow(self._width())
        return model.to(self.device)

    def check_model_and_optimizer(self, **kwargs: Any) -> None:
        """Adapts the model, then renews or extends the optimizer."""
        self.model = self.model_adaptation()
        if self.reset_optimizer or self.optimized_param_id is None:
            self.optimizer = self._make_optimizer(self.model.parameters())
            self.optimized_param_id = dict(self.model.named_parameters())
        else:
            self.make_optimizer(reset_optimizer_state=False)
        self._base_lr = [group["lr"] for group in self._make_optimizer(self.model.parameters()).param_groups]

    def make_train_dataloader(self, **kwargs: Any) -> None:
        """The source takes the place of Avalanche's loader."""
        self.dataloader = []

    def training_epoch(self, **kwargs: Any) -> None:
        """All optimizer steps of one experience."""
        assert self.source is not None
        batches = self.source.batches(0, self.steps * self.accumulate)
        for step in range(self.steps):
            if self._stop_training:
                break
            self._set_lr(step)
            self._optimizer_step([next(batches) for _ in range(self.accumulate)], **kwargs)

    def _optimizer_step(self, micro_batches: Sequence[Batch], **kwargs: Any) -> None:
        self._take(micro_batches[0], 0)
        self._before_training_iteration(**kwargs)
        self.model.train()
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for i, micro_batch in enumerate(micro_batches):
            if i:
                self._take(micro_batch, i)
            total += self._accumulate(len(micro_batches), **kwargs)
        self.scaler.unscale_(self.optimizer)
        self.loss = total
        self._after_backward(**kwargs)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self._before_update(**kwargs)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._after_update(**kwargs)
        self._report(float(total))
        self._after_training_iteration(**kwargs)

    def _accumulate(self, parts: int, **kwargs: Any) -> Tensor:
        self.loss = self._make_empty_loss()
        self._before_forward(**kwargs)
        self.mb_output = self.forward()
        self._after_forward(**kwargs)
        self.loss = self.loss + self.criterion()
        self._before_backward(**kwargs)
        part = self.loss.sum() / parts
        self.scaler.scale(part).backward(retain_graph=self.retain_graph)
        return part.detach()

    def _take(self, batch: Batch, micro_step: int) -> None:
        self.micro_step, self.mb_cases = micro_step, batch.cases
        self.mbatch = [batch.x, batch.y]
        self._unpack_minibatch()
        if self.augment is not None:
            key = (self.seed, self.clock.train_iterations, micro_step)
            self.mbatch = list(self.augment(*self.mbatch, derive_seed(*key)))

    def forward(self) -> Tensor:
        """Logits of the micro-batch."""
        return self.forward_with(self.model)

    def forward_with(self, model: nn.Module) -> Tensor:
        """Logits of the micro-batch by another model, in the precision of the run."""
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            return model(self.mb_x)

    def held_out_patches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`count` single patches of the present experience that no training step draws."""
        assert self.source is not None
        for i in range(count):
            batch = self.source.batch(_ASIDE + i)
            yield batch.x[:1].to(self.device), batch.y[:1].to(self.device)

    def _set_lr(self, step: int) -> None:
        factor = (1 - step / self.steps) ** 0.9 if self.schedule == "poly" else 1.0
        for group, base in zip(self.optimizer.param_groups, self._base_lr, strict=True):
            group["lr"] = base * factor

    def _report(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise LifelongCTError(
                f"the loss is {loss} at step {self.clock.train_exp_iterations} of the experience",
                f"cases {', '.join(self.mb_cases)}",
                "lower trainer.optimizer.lr or the strategy's weights, or set trainer.clip=1.0",
            )
        lr = self.optimizer.param_groups[0]["lr"]
        self.on_step(StepReport(self.clock.train_exp_iterations, loss, lr))

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer, scaler, Avalanche's clock and the names of the optimized parameters."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "clock": dict(vars(self.clock)),
            "optimized": list(self.optimized_param_id or {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.model.grow(state["model"]["head.bias"].shape[0])
        self.model.load_state_dict(state["model"])
        self.model.to(self.device)
        self.optimizer = self._make_optimizer(self.model.parameters())
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        vars(self.clock).update(state["clock"])
        named = dict(self.model.named_parameters())
        self.optimized_param_id = {name: named[name] for name in state["optimized"]} or None
