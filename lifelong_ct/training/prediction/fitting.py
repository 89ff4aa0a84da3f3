"""The cheapest way to make a run fit a GPU, with the effective batch that it had."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.units import format_bytes
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.prediction.fallback import predict, resized
from lifelong_ct.training.prediction.peaks import Prediction
from lifelong_ct.training.rounds import Round

PER_HALVING, PER_CHECKPOINT, PER_HOST_STATE = 0.02, 0.33, 0.15
"""More time of a step, roughly: for the order in which ways are tried."""
LEAST_PATCH, PATCH_STEP = 64, 32
"""Voxels per axis; smaller patches are not tried, and they shrink in such steps."""


@dataclass(frozen=True)
class Way:
    """A change of a configuration that leaves the effective batch.

    Attributes:
        split: micro-batches that each one becomes.
        checkpointing, host_state: see `trainer`.
        patch: another one; None leaves it.
    """

    split: int = 1
    checkpointing: bool = False
    host_state: bool = False
    patch: tuple[int, int, int] | None = None

    @property
    def cost(self) -> float:
        """More time of a step, as a share."""
        halvings = self.split.bit_length() - 1
        return PER_HALVING * halvings + PER_CHECKPOINT * self.checkpointing + PER_HOST_STATE * self.host_state

    def applied(self, options: RunOptions) -> RunOptions:
        """The changed options."""
        trainer = options.trainer
        changed = replace(
            trainer,
            batch_size=trainer.batch_size // self.split,
            accumulate=trainer.accumulate * self.split,
            checkpointing=trainer.checkpointing or self.checkpointing,
            optimizer_state="host" if self.host_state else trainer.optimizer_state,
        )
        made = replace(
            options, trainer=changed, new_plugins=partial(_divided, options.new_plugins, self.split)
        )
        return made if self.patch is None else resized(made, self.patch)

    def overrides(self, options: RunOptions) -> list[str]:
        """The same for the command line."""
        trainer, found = options.trainer, []
        if self.split > 1:
            found += [
                f"trainer.batch_size={trainer.batch_size // self.split}",
                f"trainer.accumulate={trainer.accumulate * self.split}",
            ]
            found += [
                f"strategy.plugins.{i}.exemplars_per_batch={plugin.exemplars_per_batch // self.split}"
                for i, plugin in enumerate(options.new_plugins())
                if hasattr(plugin, "exemplars_per_batch")
            ]
        found += ["trainer.checkpointing=true"] if self.checkpointing else []
        found += ["trainer.optimizer_state=host"] if self.host_state else []
        return found + ([] if self.patch is None else [f"stream.patch=[{','.join(map(str, self.patch))}]"])


@dataclass(frozen=True)
class Fit:
    """A way that fits.

    Attributes:
        way: what is changed; nothing where the run fits as it is.
        prediction: with it.
        needed: bytes, the reserve included.
        available: bytes.
    """

    way: Way
    prediction: Prediction
    needed: int
    available: int


def ways(options: RunOptions, smaller_patch: bool = False) -> Iterator[Way]:
    """What may be tried, the cheapest first; smaller patches last, and only where that is allowed."""
    trainer = options.trainer
    splits = [k for k in _powers(trainer.batch_size) if _divisible(options, k)]
    kept = [
        Way(split, checkpointing, host)
        for split in splits
        for checkpointing in ((False,) if trainer.checkpointing else (False, True))
        for host in ((False,) if trainer.optimizer_state == "host" else (False, True))
    ]
    kept.sort(key=lambda way: way.cost)
    yield from kept
    patch = options.stream.patch
    while smaller_patch and max(patch) > LEAST_PATCH:
        d, h, w = (max(LEAST_PATCH, n - PATCH_STEP) if n > LEAST_PATCH else n for n in patch)
        patch = (d, h, w)
        yield replace(kept[-1], split=max(splits), patch=patch)


def fit(
    options: RunOptions,
    rounds: Sequence[Round],
    available: int,
    smaller_patch: bool = False,
    on_cuda: bool = True,
    told: Callable[[Way, int], None] = lambda way, needed: None,
) -> Fit | None:
    """The cheapest way that fits; None where none does.

    Args:
        options: of the run.
        rounds: of the run.
        available: bytes.
        smaller_patch: whether patches may shrink.
        on_cuda: whether a GPU is meant, with its reserve.
        told: hears of every way that was tried, and what it needs.
    """
    for way in ways(options, smaller_patch):
        prediction = predict(way.applied(options), rounds, on_cuda)
        needed = prediction.peak + (options.reserve.beside(prediction.peak) if on_cuda else 0)
        told(way, needed)
        if needed <= available:
            return Fit(way, prediction, needed, available)
    return None


def fitted(options: RunOptions, rounds: Sequence[Round], before: dict[str, Any] | None = None) -> RunOptions:
    """Options with `memory.gpu=fit` applied, and told in `fitted`; the same ones where it is not asked for.

    Args:
        options: of the run.
        rounds: of the run.
        before: `fitted` of the run when it began; it goes on with that.

    Raises:
        LifelongCTError: there is no GPU to fit into.
        LimitExceeded: nothing fits.
    """
    if options.fit is None:
        return options
    if before is not None:
        way = Way(**{**before["way"], "patch": before["way"]["patch"] and tuple(before["way"]["patch"])})
        return _limited(way.applied(options), before)
    on_cuda = options.trainer.device != "cpu"
    available = options.fit.available or _free(options.trainer.device)
    least: list[int] = []
    found = fit(
        options,
        rounds,
        available,
        options.fit.smaller_patch,
        on_cuda,
        lambda way, needed: least.append(needed),
    )
    if found is None:
        raise LimitExceeded(
            f"nothing that keeps the effective batch fits {format_bytes(available)}: at best it needs "
            f"{format_bytes(min(least))}",
            "memory.gpu=fit",
            "allow memory.smaller_patch=true, use a smaller network, or another GPU",
        )
    told = {
        "available": available,
        "predicted": found.needed,
        "tensors": found.prediction.peak,
        "way": {**vars(found.way), "patch": found.way.patch and list(found.way.patch)},
        "overrides": found.way.overrides(options),
    }
    return _limited(found.way.applied(options), told)


def _limited(options: RunOptions, told: dict[str, Any]) -> RunOptions:
    return replace(options, fitted=told)


def _free(device: str) -> int:
    if device == "cpu" or not torch.cuda.is_available():
        raise LifelongCTError(
            "there is no GPU to fit into",
            "memory.gpu=fit",
            "say what it has: memory.gpu_available=8GB, or memory.gpu=8GB with the verb plan",
        )
    chosen = torch.device("cuda" if device == "auto" else device)
    free: int = torch.cuda.mem_get_info(chosen)[0]
    return free


def _powers(batch: int) -> list[int]:
    """1, 2, 4 … as long as they divide the batch."""
    found = [1]
    while batch % (2 * found[-1]) == 0:
        found.append(2 * found[-1])
    return found


def _divisible(options: RunOptions, split: int) -> bool:
    """Whether exemplars of a micro-batch can be divided too, so that a step has as many as before."""
    counts = (getattr(plugin, "exemplars_per_batch", split) for plugin in options.new_plugins())
    return split == 1 or all(count % split == 0 for count in counts)


def _divided(new_plugins: Callable[[], list[Any]], split: int) -> list[Any]:
    plugins = new_plugins()
    for plugin in plugins:
        if hasattr(plugin, "exemplars_per_batch"):
            plugin.exemplars_per_batch //= split
    return plugins
