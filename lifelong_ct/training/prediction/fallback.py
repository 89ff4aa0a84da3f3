"""Peaks of what cannot run on tensors without data: measured small, and carried over to the size asked for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.prediction.allocator import allocated
from lifelong_ct.training.prediction.peaks import Prediction
from lifelong_ct.training.prediction.rehearsal import rehearse
from lifelong_ct.training.prediction.storages import TEMPORARIES
from lifelong_ct.training.rounds import Round

NEEDS_DATA = (DataDependentOutputException, DynamicOutputShapeException)
EDGES = (32, 64)
"""Patches that are measured, voxels per axis: the smallest that most networks take, and eight times as many voxels."""


def predict(options: RunOptions, rounds: Sequence[Round], on_cuda: bool = False) -> Prediction:
    """The peak of a run's tensors: rehearsed without data; where an operation needs data, measured with two small patches
    and carried over along the number of voxels.

    Args:
        options: of the run.
        rounds: of the run.
        on_cuda: see `rehearse`.
    """
    try:
        return rehearse(options, rounds, on_cuda)
    except NEEDS_DATA:
        small, large = (_measured(resized(options, (n,) * 3), rounds, on_cuda) for n in _edges(options))
        return carried(small, large, options)


def _measured(options: RunOptions, rounds: Sequence[Round], on_cuda: bool) -> Prediction:
    """With data; what operations took inside is among the temporaries of the worst phase."""
    found: list[Prediction] = []
    most = allocated(lambda: found.append(rehearse(options, rounds, on_cuda, real=True)))
    worst = found[0].worst
    inside = max(0, most - worst.nbytes)
    kinds = {**worst.kinds, TEMPORARIES: worst.kinds.get(TEMPORARIES, 0) + inside}
    whole = replace(worst, nbytes=worst.nbytes + inside, kinds=kinds)
    return replace(found[0], phases=[whole if phase is worst else phase for phase in found[0].phases])


def resized(options: RunOptions, patch: tuple[int, int, int]) -> RunOptions:
    """The same run with other patches, and windows of their size where they were."""
    stream = copy.copy(options.stream)
    same = tuple(options.evaluation.roi) == tuple(stream.patch)
    stream.patch = patch
    roi = patch if same else options.evaluation.roi
    return replace(options, stream=stream, evaluation=replace(options.evaluation, roi=list(roi)))


def carried(small: Prediction, large: Prediction, options: RunOptions) -> Prediction:
    """A straight line through two measurements, per phase and kind, at the patch of `options`."""
    low, high = (n**3 for n in _edges(options))
    d, h, w = options.stream.patch
    share = (d * h * w - low) / (high - low)
    peaks = []
    for one, two in zip(small.phases, large.phases, strict=True):
        names = {**one.kinds, **two.kinds}
        kinds = {
            k: max(0, int(one.kinds.get(k, 0) + share * (two.kinds.get(k, 0) - one.kinds.get(k, 0))))
            for k in names
        }
        peaks.append(replace(two, nbytes=sum(kinds.values()), kinds=kinds))
    edges = " and ".join(f"{n}³" for n in _edges(options))
    return Prediction(peaks, large.growth, f"measured at {edges}, carried over along the voxels")


def _edges(options: RunOptions) -> tuple[int, int]:
    least = min(options.stream.patch)
    if least < 2:
        raise LifelongCTError("patches of one voxel", "stream.patch", "use larger ones")
    return EDGES if least >= EDGES[0] else (max(1, least // 2), least)
