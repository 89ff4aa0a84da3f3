"""The loop: Avalanche's hooks around optimizer steps on patches."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lifelong_ct.avalanche_bridge import EvaluationPlugin, SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.protocols import Batch, PatchSource
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.core.seeding import derive_seed
from lifelong_ct.models.restoring import fitted, structure
from lifelong_ct.training import stepping
from lifelong_ct.training.aside import Aside
from lifelong_ct.training.augment import Augmentation
from lifelong_ct.training.boundaries import Boundaries
from lifelong_ct.training.feed import Feed, as_they_are
from lifelong_ct.training.fitting import Fitting
from lifelong_ct.training.group import average_gradients
from lifelong_ct.training.out_of_memory import in_parts, loss_in_parts
from lifelong_ct.training.precision import amp_type
from lifelong_ct.training.supervision import supervised, taken


@dataclass
class StepReport:
    """One optimizer step, for whoever watches."""

    step: int
    loss: float
    lr: float


class Learner(Boundaries, Aside, Fitting):
    """One optimizer step is one Avalanche iteration, whatever the number of micro-batches.

    `before_training_iteration` fires before anything is accumulated; `before_backward` once per
    micro-batch with the undivided loss, which is divided afterwards; gradients are unscaled before
    `after_backward`, which fires once, before clipping. Until `before_forward` has fired the micro-batch
    holds int16 voxels as stored; what plugins add to it there is augmented with the rest.

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
        boundaries: whether the plugins hear where an experience begins and ends. Without, only their hooks around
            iterations fire: those around training, experiences and epochs would tell.
        augment: applied to patches on the device.
        feed: brings batches to the device.
        seed: of the run.
        on_step: told every optimizer step.

    Attributes:
        between_steps: called after an optimizer step, once all hooks around it have fired, with its number within the
            experience; it must leave the generators and the model as they are.
        at_once, on_note: see `Fitting`.
        drawn, again: patches that training has read from hospitals so far; how many of them were of cases in `earlier`.
        earlier: digests of cases that a past experience has shown already.
        ranks: processes that train together, each with its rows of every batch.
        source: where patches come from; a plugin may put another in its place before an experience is trained.
        boundaries: see above.
        micro_step: number of the micro-batch within the optimizer step.
        mb_cases: content digests of the micro-batch's cases.
        mb_new: how many of its samples are new; those behind them are exemplars.
        mb_annotated: its codes as they were annotated, augmented: from `after_forward` on plugins complete `mb_y`.
        mb_patients, mb_corners: see `Batch`.
    """

    plugins: list[Any]
    mb_output: Any

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
        boundaries: bool = True,
        augment: Augmentation | None = None,
        feed: Feed = as_they_are,
        seed: int = 0,
        on_step: Callable[[StepReport], None] = lambda report: None,
    ) -> None:
        kind = amp_type(amp, device)
        if schedule not in ("constant", "poly"):
            raise LifelongCTError(f"{schedule!r} is no schedule", "trainer.schedule", "use constant or poly")
        super().__init__(
            model=model,
            optimizer=optimizer(model.parameters()),
            criterion=criterion,
            train_mb_size=batch_size,
            device=device,
            plugins=list(plugins),
            evaluator=_silent_evaluator(),
        )
        self._make_optimizer, self._width = optimizer, width
        self.accumulate, self.amp, self.clip, self.schedule = accumulate, kind, clip, schedule
        self.reset_optimizer, self.augment, self.seed, self.on_step = reset_optimizer, augment, seed, on_step
        self.boundaries, self.feed = boundaries, feed
        self._own = list(plugins)
        self._coarse: list[Tensor] = []
        self._samples = 0
        self.at_once: int | None = None
        self.on_note: Callable[[str], None] = lambda text: None
        self._deaf = [] if boundaries else list(plugins)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp == "fp16")
        self.source: PatchSource | None = None
        self.ranks = Ranks()
        self._begin: Callable[[], int] = lambda: 0
        self.between_steps: Callable[[int], None] = lambda step: None
        self.earlier: frozenset[str] = frozenset()
        self.drawn = self.again = 0
        self.steps, self.micro_step = 0, 0
        self.mb_cases: Sequence[str] = ()
        self.mb_new = 0
        self.mb_annotated = torch.empty(0)
        self.mb_patients: Sequence[str] = ()
        self.mb_corners: Sequence[tuple[int, int, int]] = ()
        self.dataloader: Iterable[Any] = []
        self.optimized_param_id: dict[str, nn.Parameter] | None = None

    def learn(
        self, experience: Any, source: PatchSource, steps: int, begin: Callable[[], int] = lambda: 0
    ) -> None:
        """Trains one experience for `steps` optimizer steps on the patches of `source`.

        Args:
            experience: of Avalanche.
            source: of the patches.
            steps: of the optimizer.
            begin: called once the hooks before the first step have fired; it may put back the state of later, and tells
                how many steps that has had.
        """
        self.source, self.steps, self._begin = source, steps, begin
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
            self.renew_optimizer()
        else:
            self.make_optimizer(reset_optimizer_state=False)
        self._base_lr = [group["lr"] for group in self._make_optimizer(self.model.parameters()).param_groups]

    def renew_optimizer(self) -> None:
        """A new optimizer for the parameters of now."""
        self.optimizer = self._make_optimizer(self.model.parameters())
        self.optimized_param_id = dict(self.model.named_parameters())

    def make_train_dataloader(self, **kwargs: Any) -> None:
        """The source takes the place of Avalanche's loader."""
        self.dataloader = []

    def _check_distributed_training_compatibility(self) -> bool:
        """`group.check` has looked before the run; Avalanche knows its own plugins only, and prints the others."""
        return True

    def training_epoch(self, **kwargs: Any) -> None:
        """All optimizer steps of one experience."""
        assert self.source is not None
        first = self._begin()
        self.model.train()
        batches = self.feed(self.source.batches(first * self.accumulate, self.steps * self.accumulate))
        try:
            for step in range(first, self.steps):
                if self._stop_training:
                    break
                self._set_lr(step)
                self._optimizer_step(batches, **kwargs)
                self.between_steps(step + 1)
        finally:
            getattr(batches, "close", lambda: None)()  # ends what reads ahead

    def _optimizer_step(self, batches: Iterator[Batch], **kwargs: Any) -> None:
        taken = [next(batches)]
        counted = self.drawn, self.again

        def gradient() -> tuple[list[Tensor], list[Sequence[str]]]:
            self._take(taken[0], 0)
            self._before_training_iteration(**kwargs)
            if not self.model.training:  # to say it to every module of a network takes time
                self.model.train()
            self.optimizer.zero_grad()
            self.drawn, self.again = counted
            losses, cases = [], []
            for i in range(self.accumulate):
                if i == len(taken):
                    taken.append(next(batches))
                self._take(taken[i], i)
                losses.append(self._accumulate(**kwargs))
                cases.append(self.mb_cases)
            return losses, cases

        losses, cases = self._fitting(gradient)
        loss = self._finite_mean(losses, cases)
        if self.ranks.size > 1:
            loss = sum(self.ranks.gather(loss)) / self.ranks.size
            average_gradients(self.model, self.ranks)
        self.scaler.unscale_(self.optimizer)
        self._after_backward(**kwargs)
        self._check_gradient(cases)
        self._before_update(**kwargs)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._after_update(**kwargs)
        self.on_step(StepReport(self.clock.train_exp_iterations, loss, self.optimizer.param_groups[0]["lr"]))
        self._after_training_iteration(**kwargs)

    def _check_gradient(self, cases: Sequence[Sequence[str]]) -> None:
        """Clips, and stops before a gradient that is no number reaches the weights; with fp16 the scaler skips it."""
        most = math.inf if self.clip is None else self.clip
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), most)
        if not self.scaler.is_enabled() and not math.isfinite(float(norm)):
            raise LifelongCTError(
                f"the gradient is {float(norm)} at step {self.clock.train_exp_iterations} of experience "
                f"{self.clock.train_exp_counter + 1}",
                f"cases {', '.join(dict.fromkeys(case for each in cases for case in each))}",
                "lower trainer.optimizer.lr; on the CPU trainer.amp=bf16 needs patches whose deepest level has "
                "more than 2 voxels per axis",
            )

    def _accumulate(self, **kwargs: Any) -> Tensor:
        self.loss, self.mb_output = self._make_empty_loss(), None  # the last ones make room for these
        self._before_forward(**kwargs)
        self._samples = len(self.mb_x)
        self._augment()
        if self.at_once is not None and not self._own:
            return self._part_by_part(self.at_once)
        self.mb_output = self.forward()
        self._after_forward(**kwargs)
        self.loss = self.loss + self.criterion()
        self._before_backward(**kwargs)
        self.scaler.scale(self.loss.sum() / self.accumulate).backward(retain_graph=self.retain_graph)
        return self.loss.detach().sum()

    def _part_by_part(self, most: int) -> Tensor:
        """Nobody looks at the micro-batch as a whole: each part has its own backward pass, and nothing is computed twice."""
        whole = torch.zeros((), device=self.device)
        for x, y in zip(self.mb_x.split(most), self.mb_y.split(most), strict=True):
            self.mbatch = [x, y]
            self.mb_output = self.forward()
            loss = self.criterion() * (len(x) / self._samples)
            self.scaler.scale(loss / self.accumulate).backward()
            whole += loss.detach()
        return whole

    def _take(self, batch: Batch, micro_step: int) -> None:
        self.micro_step, self.mb_cases = micro_step, batch.cases
        self.mb_patients, self.mb_corners = batch.patients, batch.corners
        self.mb_new = 0 if batch.replayed else len(batch.cases)
        self.drawn += self.mb_new
        self.again += 0 if batch.replayed else sum(case in self.earlier for case in batch.cases)
        self.mbatch = [batch.x, batch.y]
        self._samples = len(batch.x)
        self._unpack_minibatch()

    def _augment(self) -> None:
        if self.augment is not None:
            other = (self.ranks.rank,) if self.ranks.size > 1 else ()
            seed = derive_seed(self.seed, self.clock.train_iterations, self.micro_step, *other)
            self.mbatch = list(self.augment(self.mb_x, self.mb_y, seed))
        self.mb_annotated = self.mb_y

    def _finite_mean(self, losses: list[Tensor], cases: list[Sequence[str]]) -> float:
        """Checked before the weights change, so that the model of before is still whole."""
        stacked = torch.stack(losses)
        self.loss = stacked.mean()
        values = stacked.tolist()
        bad = [i for i, value in enumerate(values) if not math.isfinite(value)]
        if bad:
            named = dict.fromkeys(case for i in bad for case in cases[i])
            raise LifelongCTError(
                f"the loss is {values[bad[0]]} at step {self.clock.train_exp_iterations} of experience "
                f"{self.clock.train_exp_counter + 1}",
                f"cases {', '.join(named)}",
                "lower trainer.optimizer.lr or the strategy's weights, or set trainer.clip=1.0",
            )
        return sum(values) / len(values)

    def forward(self) -> Tensor:
        """Logits of the micro-batch."""
        taken(self.model)  # what other passes left
        logits = self.forward_with(self.model)
        self._coarse = taken(self.model)
        return logits

    def forward_with(self, model: nn.Module, x: Tensor | None = None) -> Tensor:
        """Logits of the micro-batch, or of other samples `x` `[n,C,D,H,W]` on the device, by a model, in the precision of
        the run and at most `at_once` of them at a time."""
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            return in_parts(model, self.mb_x if x is None else x, self.at_once)

    def criterion(self) -> Tensor:
        """Loss of the micro-batch, undivided."""
        loss = loss_in_parts(self._criterion, self.mb_output, self.mb_y, self.at_once)
        coarse, self._coarse = self._coarse, []
        return supervised(self._criterion, loss, coarse, self.mb_y) if coarse else loss

    def _set_lr(self, step: int) -> None:
        factor = (1 - step / self.steps) ** 0.9 if self.schedule == "poly" else 1.0
        for group, base in zip(self.optimizer.param_groups, self._base_lr, strict=True):
            group["lr"] = base * factor

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer, scaler, Avalanche's clock and the names of the optimized parameters."""
        return {
            "model": dict(self.model.state_dict()),
            "structure": structure(self.model),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "clock": dict(vars(self.clock)),
            "optimized": self._optimized_names(),
            "at_once": self.at_once,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.model = fitted(self.model, state.get("structure"), state["model"])
        self.model.load_state_dict(state["model"])
        self.model.to(self.device)
        named = dict(self.model.named_parameters())
        optimized = {name: named[name] for name in state["optimized"]}
        self.optimizer = self._make_optimizer(list((optimized or named).values()))
        stepping.load(self.optimizer, state["optimizer"])
        self.optimized_param_id = optimized or None
        self.scaler.load_state_dict(state["scaler"])
        self.at_once = state.get("at_once")
        for name, value in state["clock"].items():
            setattr(self.clock, name, value)

    def _optimized_names(self) -> list[str]:
        """In the optimizer's order, which is that of its state."""
        if self.optimized_param_id is None:
            return []
        names = {id(parameter): name for name, parameter in self.optimized_param_id.items()}
        return [names[id(p)] for group in self.optimizer.param_groups for p in group["params"]]


def _silent_evaluator() -> EvaluationPlugin:
    """Avalanche wants one and warns that it logs nothing; scores are made elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return EvaluationPlugin()
