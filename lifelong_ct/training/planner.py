"""Before a run: who will hold how many bytes, and whether the limits allow it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.core.errors import DataError, LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.types import Case
from lifelong_ct.core.units import format_bytes
from lifelong_ct.data.grids import Shape, case_affine, case_grid
from lifelong_ct.data.loading.budget import CACHES, DECODING, QUEUE, needs
from lifelong_ct.data.resampling import between_bytes, new_shape
from lifelong_ct.evaluation.inference import inference_bytes
from lifelong_ct.evaluation.resample import upright_shape
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.training.options import EvaluationOptions, RunOptions
from lifelong_ct.training.spacing import run_spacing

MIN_CACHE = 4 << 20
"""Bytes of the smallest brick cache that still serves: a few compressed bricks."""
STATE_COPIES = 4
"""Weights, gradients and the two moments of Adam."""
LEAST_SHARE = 0.1
"""Compressed bytes of a volume over its raw ones, at best."""
EVALUATION = "evaluation of a case"
CHECKPOINTS, STATE = "checkpoints", "weights, gradients, optimizer"
RESERVED = (("ram", QUEUE), ("ram", DECODING), ("disk", CHECKPOINTS), ("gpu", STATE))
"""Demands that nobody else admits."""


@dataclass(frozen=True)
class Demand:
    """One holder.

    Attributes:
        kind: ram, disk, gpu or exemplars.
        owner: who holds.
        nbytes: how much, at least.
        basis: how the number was found.
    """

    kind: str
    owner: str
    nbytes: int
    basis: str


def demands(
    options: RunOptions, groups: Sequence[Sequence[Hospital]], plugins: Sequence[StrategyPlugin]
) -> list[Demand]:
    """What a run will hold at least. Activations, and what ingest needs for a moment, are not in it.

    Args:
        options: of the run.
        groups: the hospitals whose training volumes must be there at once, per round.
        plugins: of the strategy, bound.
    """
    weights = parameter_bytes(options.new_whole_model())
    declared = [(type(plugin).__name__, plugin.declared_bytes(weights)) for plugin in plugins]
    # checkpoints name the exemplars that lie on disk, and hold the others
    kept = sum(own.get("gpu", 0) + own.get("ram" if "disk" in own else "exemplars", 0) for _, own in declared)
    reading = needs(
        options.stream.patch,
        options.trainer.batch_size,
        read_ahead=options.data.read_ahead,
        workers=options.data.workers,
        kind=options.data.worker_kind,
        cache=MIN_CACHE,
        channels=options.stream.channels,
    )
    caches = [Demand("ram", CACHES, reading[CACHES], "the smallest that serve")] if CACHES in reading else []
    within = (
        0 if options.checkpoint.every_steps is None else 2
    )  # the last one, and the one that is being written
    keep = options.trainer.keep_checkpoints + 1 + within
    everything = [h for experience in options.stream.experiences for h in experience.hospitals]
    at_once = [everything] if options.data.keep == "all" else groups
    spacing = run_spacing(options.stream, groups[0])
    volumes = max(
        sum(least_bytes(hospital, spacing, options.stream.channels) for hospital in group)
        for group in at_once
    )
    return [
        Demand("ram", "brick cache", MIN_CACHE, "the smallest that serves"),
        *caches,
        Demand("ram", QUEUE, reading[QUEUE], f"batches of {options.data.workers} workers and the next ones"),
        Demand("ram", DECODING, reading[DECODING], f"what {options.data.workers} workers read"),
        Demand("ram", EVALUATION, largest_evaluation(options, spacing), "the largest, every organ"),
        Demand("disk", CHECKPOINTS, keep * (3 * weights + kept + (1 << 20)), f"{keep} at once"),
        Demand("disk", "volume store", volumes, f"at best {LEAST_SHARE:.0%} of the raw bytes of a round"),
        Demand("gpu", STATE, STATE_COPIES * weights, "with the two moments of Adam"),
        *(Demand(kind, name, n, "declared") for name, own in declared for kind, n in own.items()),
        *_predicting(options, plugins),
    ]


def _predicting(options: RunOptions, plugins: Sequence[StrategyPlugin]) -> list[Demand]:
    """What strategies hold for a window, beside its activations."""
    width = 1 + len(options.stream.label_space.organs)
    return [
        Demand(kind, f"{type(plugin).__name__} prediction", n, "for a window, every organ")
        for plugin in plugins
        for kind, n in plugin.inference_bytes(options.evaluation.roi, width).items()
    ]


def least_bytes(hospital: Hospital, spacing: Sequence[float] | None, channels: int) -> int:
    """Compressed bytes of a hospital's training volumes, at best."""
    voxels = sum(grid_voxels(case, spacing) for case in hospital.train)
    return int(voxels * voxel_bytes(channels) * LEAST_SHARE)


def largest_evaluation(options: RunOptions, spacing: Sequence[float] | None) -> int:
    """Bytes while the largest test case is scored, once every organ has been seen."""
    width, channels = 1 + len(options.stream.label_space.organs), options.stream.channels
    cases = (case for hospital in options.stream.scored for case in hospital.test)
    grids = {(seen_shape(case, spacing), grid_shape(case, None)) for case in cases}
    return max(
        (evaluation_bytes(shape, native, channels, width, options.evaluation) for shape, native in grids),
        default=0,
    )


def evaluation_bytes(
    shape: Sequence[int], native: Sequence[int], channels: int, width: int, options: EvaluationOptions
) -> int:
    """Bytes while a case is scored: its image as int16 on its own grid and on the run's, the labels on its own grid, and
    the more of what `predict_labels` holds and what resampling does in between. Activations are not in it.

    Args:
        shape: voxels per axis on the run's spacing.
        native: on the case's own grid.
        channels: of the image.
        width: of the head.
        options: window, overlap and precision.
    """
    voxels, own = math.prod(shape), math.prod(native)
    if not voxels:
        return 0
    held = inference_bytes(shape, options.roi, options.overlap, options.precision, channels, width)
    between = 0 if tuple(shape) == tuple(native) else between_bytes(native, shape)
    return int(max(held, between) + 2 * channels * voxels + (2 * channels + 1) * own)


def voxel_bytes(channels: int) -> int:
    """int16 per channel and uint8 label."""
    return 2 * channels + 1


def grid_voxels(case: Case, spacing: Sequence[float] | None) -> int:
    """Voxels of a case on the stream's spacing, from its header; 0 where that cannot be read."""
    return math.prod(grid_shape(case, spacing))


def grid_shape(case: Case, spacing: Sequence[float] | None) -> Shape:
    """Voxels per axis of a case on the stream's spacing, from its header; zeros where that cannot be read (ingest will
    say why)."""
    try:
        shape, own = case_grid(None, case)
    except DataError:
        return 0, 0, 0
    return shape if spacing is None or own is None else new_shape(shape, own, spacing)


def seen_shape(case: Case, spacing: Sequence[float] | None) -> Shape:
    """`grid_shape` of a case as it is scored: an oblique scan is set upright for it."""
    try:
        shape, affine = case_affine(case)
    except DataError:
        return 0, 0, 0
    return shape if affine is None else upright_shape(shape, affine, spacing)


def check(ledger: Ledger, demands: Iterable[Demand]) -> None:
    """Refuses a plan that cannot fit.

    Raises:
        LimitExceeded: with everybody's need, for the first kind whose limit is passed.
    """
    rows = list(demands)
    for kind, limit in ledger.limits.items():
        mine = [row for row in rows if row.kind == kind]
        total = sum(row.nbytes for row in mine)
        if limit is not None and total > limit:
            needs = ", ".join(f"{row.owner} {format_bytes(row.nbytes)}" for row in mine)
            raise LimitExceeded(
                f"the run needs at least {format_bytes(total)} ({total} bytes) of {kind}, "
                f"the limit is {format_bytes(limit)}",
                f"memory.{kind}; needed: {needs}",
                f"raise memory.{kind} to at least {total}, or ask for less",
            )


def check_size(model: nn.Module, size: Sequence[int], key: str, channels: int = 1) -> None:
    """Tries a network on an empty patch, so that a size that it cannot take is found before training.

    Args:
        model: takes int16 `[1, C, D, H, W]`.
        size: `(D, H, W)`.
        key: of the configuration, for the error.
        channels: C of the stream.

    Raises:
        LifelongCTError: another number of channels; or with the next larger size that it can take.
    """
    problem = _refusal(model, size, channels)
    if problem is None:
        return
    taken = next(p for p in model.parameters() if p.ndim == 5).shape[1]
    if taken != channels:
        raise LifelongCTError(
            f"the network takes {taken} channels, the scans of the stream have {channels}",
            "model, stream.channels",
            "write in_channels: ${oc.select:stream.channels,1} in the model",
        )
    larger = ([-(-n // step) * step for n in size] for step in (8, 16, 32, 64, 128))
    tried = (each for each in larger if _refusal(model, each, channels) is None)
    fits = next((f"{key}={each}" for each in tried), "another network")
    raise LifelongCTError(
        f"the network cannot take patches of {list(size)}: {problem}", key, f"use {fits.replace(' ', '')}"
    )


def _refusal(model: nn.Module, size: Sequence[int], channels: int) -> str | None:
    device = next(model.parameters()).device
    patch = torch.zeros((1, channels, *size), dtype=torch.int16, device=device)
    was_training = model.training
    try:
        with torch.no_grad():
            out = model.eval()(patch)
    except (RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    finally:
        model.train(was_training)
    return None if out.shape[2:] == patch.shape[2:] else f"it answers with {list(out.shape[2:])}"


def parameter_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
