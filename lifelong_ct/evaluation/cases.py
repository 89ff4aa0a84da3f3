"""Scores of one case: the organs that were annotated in it, each with every metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.labels import default_vocabulary
from lifelong_ct.data.types import local_ids

Box = tuple[slice, slice, slice]


class Metric(Protocol):
    """One or more numbers about a predicted and a reference mask; None where a number is undefined."""

    @property
    def names(self) -> tuple[str, ...]:
        """Keys of the result, in order."""

    def __call__(
        self, prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_], spacing: Sequence[float]
    ) -> Mapping[str, float | None]:
        """Bool masks `[D,H,W]` and mm per axis → name → value."""


@runtime_checkable
class OrganMetric(Protocol):
    """A metric that differs between organs, or is not for all of them."""

    def for_organ(self, organ: str) -> Metric | None:
        """The metric for an organ (canonical name); None where it does not apply: the organ has no such value."""


class Reference(Protocol):
    """What is needed of a `RawCase`."""

    @property
    def label(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | None:
        """`[D,H,W]`; value i >= 1 is `organs[i - 1]`."""

    @property
    def organs(self) -> tuple[str, ...]:
        """The annotated organs."""

    @property
    def overlaps(self) -> tuple[tuple[int, ...], ...]:
        """Sets of organs that share voxels, as positions in `organs`; value len(organs) + k is the k-th. An empty
        set: nobody knows what is there."""


def score_case(
    prediction: npt.NDArray[np.uint8],
    reference: Reference,
    channel_of: Mapping[str, int],
    spacing: Sequence[float],
    metrics: Iterable[Metric | OrganMetric],
    parent: Mapping[str, str] | None = None,
) -> list[tuple[str, str, float | None]]:
    """Scores a prediction on the case's own grid.

    Only organs that the case annotates are scored: the others are skipped, never zero. An organ without a
    channel counts as an empty prediction. An organ contains the organs inside it: a voxel labelled or
    predicted as liver tumour is liver too. Voxels that nobody knows count for nothing, whatever is predicted.

    The metrics see the bounding box of both masks, not the volume; none of ours depends on the background
    beyond it.

    Args:
        prediction: channel ids `[D,H,W]`.
        reference: label and organs of the case, on the same grid.
        channel_of: organ → channel of the head.
        spacing: mm per axis.
        metrics: what to compute; one that has `for_organ` is asked for that of each organ.
        parent: organ → the organ that contains it; the library's vocabulary where None.

    Returns:
        (organ, metric, value) in the order of the case's organs; value None where undefined. A metric that does not
        apply to an organ gives nothing.

    Raises:
        DataError: prediction and label differ in shape.
    """
    if reference.label is None:
        return []
    if prediction.shape != reference.label.shape:
        raise DataError(
            f"the prediction has shape {prediction.shape}, the label {reference.label.shape}",
            "evaluation of a case",
            "bring the prediction to the label's grid first (evaluation.resample.labels_to_grid)",
            code="shape_mismatch",
        )
    metrics = list(metrics)
    contains = default_vocabulary().contains if parent is None else partial(_contains, parent)
    unknown = [len(reference.organs) + k for k, members in enumerate(reference.overlaps, 1) if not members]
    predicted_boxes, true_boxes = ndimage.find_objects(prediction), ndimage.find_objects(reference.label)
    scores: list[tuple[str, str, float | None]] = []
    for organ in reference.organs:
        channels = _ids(organ, channel_of, contains)
        inside = [name for name in reference.organs if contains(organ, name)]
        locals_ = sorted(
            {i for name in inside for i in local_ids(name, reference.organs, reference.overlaps)}
        )
        box = _box([*_found(predicted_boxes, channels), *_found(true_boxes, locals_)])
        predicted, true = _mask(prediction[box], channels), _mask(reference.label[box], locals_)
        if unknown:
            predicted &= ~_mask(reference.label[box], unknown)
        for metric in _for(organ, metrics):
            values = metric(predicted, true, spacing)
            scores += [(organ, name, values[name]) for name in metric.names]
    return scores


def _for(organ: str, metrics: Iterable[Metric | OrganMetric]) -> Iterator[Metric]:
    for metric in metrics:
        own = metric.for_organ(organ) if isinstance(metric, OrganMetric) else metric
        if own is not None:
            yield own


def _mask(values: npt.NDArray[np.unsignedinteger], ids: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Where the values are among the ids: a byte per voxel at a time, where `np.isin` takes nine."""
    mask = np.zeros(values.shape, bool)
    for i in ids:
        mask |= values == i
    return mask


def _ids(organ: str, id_of: Mapping[str, int], contains: Callable[[str, str], bool]) -> list[int]:
    """Ids of an organ and of all organs inside it, where they have one."""
    return [i for name, i in id_of.items() if contains(organ, name)]


def _contains(parent: Mapping[str, str], organ: str, name: str | None) -> bool:
    while name is not None and name != organ:
        name = parent.get(name)
    return name is not None


def _found(boxes: list[Box | None], ids: Iterable[int]) -> list[Box]:
    return [box for i in ids if i <= len(boxes) and (box := boxes[i - 1]) is not None]


def _box(boxes: list[Box]) -> Box:
    """The smallest box around all; a single voxel where there is none, so that no metric sees no voxel."""
    if not boxes:
        return (slice(0, 1), slice(0, 1), slice(0, 1))
    d, h, w = (slice(min(b[a].start for b in boxes), max(b[a].stop for b in boxes)) for a in range(3))
    return d, h, w
