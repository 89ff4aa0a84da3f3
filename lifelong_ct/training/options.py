"""What a run is made of, ready to use: no configuration framework beyond this point."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.identity import Identity, Redactor
from lifelong_ct.core.units import parse_bytes
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.loading.budget import checked_kind
from lifelong_ct.data.sampling import SamplingPolicy, make_schedule
from lifelong_ct.data.sampling.policy import checked_share
from lifelong_ct.evaluation.blending import precision_of
from lifelong_ct.evaluation.cases import Metric
from lifelong_ct.evaluation.mirroring import checked_axes
from lifelong_ct.memory.shelves import TIERS
from lifelong_ct.streams.base import Stream
from lifelong_ct.training.augment import Augmentation
from lifelong_ct.training.prediction.reserve import STATED, Reserve


@dataclass(frozen=True)
class Requires:
    """What a strategy asks of a run.

    Attributes:
        past_data: every hospital's volumes stay, and it trains once, on all of them.
        reinitialise: a new model before it trains.
        boundaries: it must be told where an experience ends.
        resumable: its state can be written to a checkpoint.
        held_out: it reads patches, or whole cases, of an experience beside the patches that it trains on.
    """

    past_data: bool = False
    reinitialise: bool = False
    boundaries: bool = False
    resumable: bool = True
    held_out: bool = False

    def __post_init__(self) -> None:
        for key in ("past_data", "reinitialise", "boundaries", "resumable", "held_out"):
            _yes_or_no(getattr(self, key), key, "strategy.requires")


@dataclass(frozen=True)
class DataOptions:
    """The data path; see `conf/data/default.yaml`."""

    keep: str = "current"
    on_bad: str = "error"
    cache: int | str = "256MiB"
    foreground: float = 0.67
    schedule: str = "epochs"
    patches_per_case: int = 8
    workers: int = 1
    worker_kind: str = "thread"
    read_ahead: int = 2
    timeout: float = 120
    ingest_workers: int | str = "auto"

    def __post_init__(self) -> None:
        if self.ingest_workers != "auto":
            _at_least_one(self.ingest_workers, "ingest_workers", "data")
        if self.keep not in ("current", "all"):
            raise LifelongCTError(f"keep={self.keep!r} is unknown", "data.keep", "use current or all")
        parse_bytes(self.cache, "data.cache")
        checked_share(self.foreground)
        for key in ("workers", "read_ahead", "patches_per_case"):
            _at_least_one(getattr(self, key), key, "data")
        make_schedule(self.schedule, self.patches_per_case)
        checked_kind(self.worker_kind)
        if not isinstance(self.timeout, (int, float)) or not 0 < self.timeout < math.inf:
            raise LifelongCTError(f"timeout={self.timeout!r}", "data.timeout", "write seconds, such as 120")

    @property
    def ingesters(self) -> int:
        """Threads that ingest."""
        if self.ingest_workers != "auto":
            return int(self.ingest_workers)
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class TrainerOptions:
    """The loop; see `conf/trainer/default.yaml`."""

    optimizer: Callable[[Any], torch.optim.Optimizer]
    steps: int
    batch_size: int = 2
    accumulate: int = 1
    amp: str | None = None
    clip: float | None = None
    schedule: str = "poly"
    reset_optimizer: bool = True
    augment: Augmentation | None = None
    device: str = "auto"
    channels_last: bool | str = "auto"
    fused: bool | str = "auto"
    compile: bool = False
    deterministic: bool = False
    checkpointing: bool = False
    optimizer_state: str = "device"
    stop_after: int | None = None
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for key in ("steps", "batch_size", "accumulate", "keep_checkpoints"):
            _at_least_one(getattr(self, key), key, "trainer")
        if self.stop_after is not None:
            _at_least_one(self.stop_after, "stop_after", "trainer")
        if self.clip is not None and not (_number(self.clip, 0) and self.clip > 0):
            raise LifelongCTError(f"clip={self.clip}", "trainer.clip", "write a norm above 0, or null")
        _yes_or_no(self.reset_optimizer, "reset_optimizer", "trainer")
        for key in ("channels_last", "fused"):
            if getattr(self, key) != "auto":
                _yes_or_no(getattr(self, key), key, "trainer", "use true, false or auto")
        for key in ("compile", "deterministic", "checkpointing"):
            _yes_or_no(getattr(self, key), key, "trainer")
        if self.optimizer_state not in ("device", "host"):
            raise LifelongCTError(
                f"optimizer_state={self.optimizer_state!r}", "trainer.optimizer_state", "use device or host"
            )
        if self.augment is not None and not callable(self.augment):
            raise LifelongCTError(f"augment={self.augment}", "trainer.augment", "give a _target_, or null")
        self._try_optimizer()

    def _try_optimizer(self) -> None:
        try:
            made: Any = self.optimizer([nn.Parameter(torch.zeros(1))])
        except (TypeError, ValueError) as error:
            raise LifelongCTError(
                f"the optimizer cannot be made: {error}",
                "trainer.optimizer",
                "give a _target_ of torch.optim with _partial_: true, and options that it takes",
            ) from error
        if not isinstance(made, torch.optim.Optimizer):
            raise LifelongCTError(
                f"{type(made).__name__} is no optimizer",
                "trainer.optimizer",
                "give a _target_ of torch.optim",
            )


@dataclass(frozen=True)
class CheckpointOptions:
    """What a kill may cost; see `conf/checkpoint/default.yaml`."""

    every_steps: int | None = None

    def __post_init__(self) -> None:
        if self.every_steps is not None:
            _at_least_one(
                self.every_steps, "every_steps", "checkpoint", "write a whole number from 1, or null"
            )

    def due(self, step: int, steps: int) -> bool:
        """Whether to write one after this step of so many; the end of an experience has its own."""
        return self.every_steps is not None and step % self.every_steps == 0 and step < steps


@dataclass(frozen=True)
class EvaluationOptions:
    """Scores; see `conf/evaluation/default.yaml`."""

    metrics: Sequence[Metric]
    roi: Sequence[int]
    overlap: float = 0.25
    schedule: str | int = "every"
    precision: str = "fp32"
    mirror: Sequence[int] = ()
    panel: int | None = None
    panel_hospitals: int | None = None
    within: int | None = None

    def __post_init__(self) -> None:
        precision_of(self.precision)
        checked_axes(self.mirror)
        for key in ("panel", "panel_hospitals", "within"):
            if getattr(self, key) is not None:
                _at_least_one(getattr(self, key), key, "evaluation", "write a whole number from 1, or null")
        known = self.schedule in ("every", "final")
        if not known and not (isinstance(self.schedule, int) and self.schedule > 0):
            raise LifelongCTError(
                f"{self.schedule!r} is no schedule",
                "evaluation.schedule",
                "use every, final or a number of experiences",
            )
        if len(self.roi) != 3 or not all(map(_whole, self.roi)) or min(self.roi) < 1:
            raise LifelongCTError(f"roi={list(self.roi)}", "evaluation.roi", "write [D, H, W] in voxels")
        metrics: Any = self.metrics
        if not isinstance(metrics, (list, tuple)) or not all(
            hasattr(m, "names") and callable(m) for m in metrics
        ):
            raise LifelongCTError(
                "a metric is none", "evaluation.metrics", "list metrics by _target_, see conf/evaluation"
            )
        if not _number(self.overlap, 0) or self.overlap >= 1:
            raise LifelongCTError(f"overlap={self.overlap}", "evaluation.overlap", "write 0.25 or so")

    def due(self, after: int, last: int) -> bool:
        """Whether to score after this experience."""
        if after == last or self.schedule == "every":
            return True
        return isinstance(self.schedule, int) and after % self.schedule == 0


@dataclass(frozen=True)
class FitOptions:
    """How a run is made to fit (`memory.gpu=fit`).

    Attributes:
        available: bytes to fit into; what the GPU of this machine has free where None.
        smaller_patch: whether patches may become smaller, if nothing else helps.
    """

    available: int | None = None
    smaller_patch: bool = False

    def __post_init__(self) -> None:
        _yes_or_no(self.smaller_patch, "smaller_patch", "memory")


@dataclass(frozen=True)
class RunOptions:
    """One stream, one strategy, one seed.

    Attributes:
        strategy: its name.
        seed: of the run.
        stream: hospitals in order.
        requires: what the strategy asks for.
        new_model: a fresh model, head of width 1, on the CPU.
        new_loss: criterion for a label space.
        new_plugins: Avalanche plugins of the strategy.
        limits: kind → bytes or None.
        data, trainer, evaluation: options.
        folder: the run folder.
        store: folder of the volume store.
        config: what the reports show, redacted.
        config_hash: identifies the configuration.
        command: how to run it again.
        identity: makes pseudonyms.
        redact: removes what is private from a text.
        reporters: options of `reporting`.
        group: name of the sweep.
        sampling: where patches are centred; organs with equal right where None.
        name: of the run, in reports; that of the folder where empty.
        exemplar_tier: where exemplars lie, ram or disk.
        fit: what is changed so that the run fits its GPU; None where it shall not be.
        fitted: what was changed, for the results.
        checkpoint: how often state is written within an experience.
        reserve: what a GPU holds beside tensors.
    """

    strategy: str
    seed: int
    stream: Stream
    requires: Requires
    new_model: Callable[[], nn.Module]
    new_loss: Callable[[LabelSpace], nn.Module]
    new_plugins: Callable[[], list[SupervisedPlugin]]
    limits: Mapping[str, int | str | None]
    data: DataOptions
    trainer: TrainerOptions
    evaluation: EvaluationOptions
    folder: Path
    store: Path
    identity: Identity
    redact: Redactor
    config: Mapping[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    command: str = ""
    group: str | None = None
    sampling: SamplingPolicy | None = None
    name: str = ""
    exemplar_tier: str = "ram"
    fit: FitOptions | None = None
    fitted: Mapping[str, Any] | None = None
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    reserve: Reserve = STATED

    def __post_init__(self) -> None:
        if self.exemplar_tier not in TIERS:
            raise LifelongCTError(
                f"exemplar_tier={self.exemplar_tier!r} is unknown", "memory.exemplar_tier", "use ram or disk"
            )

    def new_whole_model(self) -> nn.Module:
        """A fresh model with every organ of the stream, without what a strategy adds to it."""
        model = self.new_model()
        model.grow(1 + len(self.stream.label_space.organs))  # type: ignore[operator]
        return model


def _at_least_one(value: Any, key: str, group: str, fix: str = "write a whole number from 1") -> None:
    if not _whole(value) or value < 1:
        raise LifelongCTError(f"{key}={value}", f"{group}.{key}", fix)


def _yes_or_no(value: Any, key: str, group: str, fix: str = "write true or false") -> None:
    if not isinstance(value, bool):
        raise LifelongCTError(f"{key}={value}", f"{group}.{key}", fix)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < math.inf
