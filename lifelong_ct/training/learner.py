"""The loop: Avalanche's hooks around optimizer steps on patches."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lifelong_ct.avalanche_bridge import EvaluationPlugin, SupervisedPlugin, SupervisedTemplate
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.protocols import Batch, PatchSource
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.core.seeding import derive_seed
from lifelong_ct.models.restoring import fitted, structure
from lifelong_ct.models.routing import tiles
from lifelong_ct.training.augment import Augmentation
from lifelong_ct.training.feed import Feed, as_they_are
from lifelong_ct.training.group import average_gradients

_ASIDE = 1 << 40
"""First step number of patches that no training step draws."""

AMP_TYPES = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}


def amp_type(name: str | None, device: torch.device | str) -> torch.dtype | None:
    """`trainer.amp` as autocast takes it.

    Raises:
        LifelongCTError: unknown, or nothing for the device.
    """
    if name not in AMP_TYPES:
        raise LifelongCTError(f"{name!r} is not a precision", "trainer.amp", "use null, bf16 or fp16")
    if name == "fp16" and not str(device).startswith("cuda"):
        raise LifelongCTError("fp16 needs a GPU", "trainer.amp", "use bf16 on the CPU")
    return AMP_TYPES[name]


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

    def _before_training(self, **kwargs: Any) -> None:
        with self._within():
            super()._before_training(**kwargs)

    def _before_training_exp(self, **kwargs: Any) -> None:
        with self._within():
            super()._before_training_exp(**kwargs)

    def _before_training_epoch(self, **kwargs: Any) -> None:
        with self._within():
            super()._before_training_epoch(**kwargs)

    def _after_training_epoch(self, **kwargs: Any) -> None:
        with self._within():
            super()._after_training_epoch(**kwargs)

    def _after_training_exp(self, **kwargs: Any) -> None:
        with self._within():
            super()._after_training_exp(**kwargs)

    def _after_training(self, **kwargs: Any) -> None:
        with self._within():
            super()._after_training(**kwargs)

    @contextmanager
    def _within(self) -> Iterator[None]:
        """At a boundary: nobody hears of it who should not. Avalanche's clock always does."""
        everybody = self.plugins
        self.plugins = [p for p in everybody if not any(p is deaf for deaf in self._deaf)]
        try:
            yield
        finally:
            self.plugins = everybody

    def training_epoch(self, **kwargs: Any) -> None:
        """All optimizer steps of one experience."""
        assert self.source is not None
        first = self._begin()
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
        self._take(next(batches), 0)
        self._before_training_iteration(**kwargs)
        self.model.train()
        self.optimizer.zero_grad()
        losses, cases = [self._accumulate(**kwargs)], [self.mb_cases]
        for i in range(1, self.accumulate):
            self._take(next(batches), i)
            losses.append(self._accumulate(**kwargs))
            cases.append(self.mb_cases)
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
        self.loss = self._make_empty_loss()
        self._before_forward(**kwargs)
        self._augment()
        self.mb_output = self.forward()
        self._after_forward(**kwargs)
        self.loss = self.loss + self.criterion()
        self._before_backward(**kwargs)
        self.scaler.scale(self.loss.sum() / self.accumulate).backward(retain_graph=self.retain_graph)
        return self.loss.detach().sum()

    def _take(self, batch: Batch, micro_step: int) -> None:
        self.micro_step, self.mb_cases = micro_step, batch.cases
        self.mb_patients, self.mb_corners = batch.patients, batch.corners
        self.mb_new = 0 if batch.replayed else len(batch.cases)
        self.drawn += self.mb_new
        self.again += 0 if batch.replayed else sum(case in self.earlier for case in batch.cases)
        self.mbatch = [batch.x, batch.y]
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
        return self.forward_with(self.model)

    def forward_with(self, model: nn.Module) -> Tensor:
        """Logits of the micro-batch by another model, in the precision of the run."""
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            return model(self.mb_x)

    def held_out_patches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`count` single patches of the present experience that no training step draws.

        Raises:
            DataError: after one pass (`data.schedule=one_pass`), whose cases are closed: there are none.
        """
        for batch in self.held_out_batches(count):
            yield batch.x[:1].to(self.device), batch.y[:1].to(self.device)

    def held_out_batches(self, count: int) -> Iterator[Batch]:
        """The batches whose first patches those are, with where they come from."""
        assert self.source is not None
        for i in range(count):
            yield self.source.batch(_ASIDE + i)

    def whole_cases(self, most: int) -> Iterator[Tensor]:
        """Tiles int16 `[1,C,d,h,w]` that cover up to `most` training cases of the present experience; patches, where the
        source has no volumes."""
        volumes = getattr(self.source, "volumes", None)
        if volumes is None:
            yield from (x for x, _ in self.held_out_patches(most))
            return
        for volume in volumes[:: max(1, len(volumes) // most)][:most]:
            for box in tiles(volume.shape):
                start, size = zip(*((s.start, s.stop - s.start) for s in box), strict=True)
                yield torch.from_numpy(volume.read(start, size)[0])[None].to(self.device)

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
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.model = fitted(self.model, state.get("structure"), state["model"])
        self.model.load_state_dict(state["model"])
        self.model.to(self.device)
        named = dict(self.model.named_parameters())
        optimized = {name: named[name] for name in state["optimized"]}
        self.optimizer = self._make_optimizer(list((optimized or named).values()))
        self.optimizer.load_state_dict(state["optimizer"])
        self.optimized_param_id = optimized or None
        self.scaler.load_state_dict(state["scaler"])
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
