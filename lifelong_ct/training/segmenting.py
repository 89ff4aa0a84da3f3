"""A scan through a served model, and the organs' volumes, on the scan's own grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.certainty import Certainty
from lifelong_ct.evaluation.inference import predict_labels
from lifelong_ct.evaluation.resample import to_model, to_scan, upright_shape
from lifelong_ct.evaluation.volume import MM3_PER_ML
from lifelong_ct.training.options import EvaluationOptions
from lifelong_ct.training.planner import EVALUATION, evaluation_bytes
from lifelong_ct.training.scoring import mirroring_of
from lifelong_ct.training.serving import Served


@dataclass(frozen=True)
class Segmentation:
    """What a model says of a scan.

    Attributes:
        labels: channel ids, uint8 `[D, H, W]` in canonical order.
        volumes: organ → mL, voxel count × voxel volume; what lies in an organ is part of it, as in `evaluate`.
        certainty: of the labels.
    """

    labels: npt.NDArray[np.uint8]
    volumes: dict[str, float]
    certainty: Certainty


def segment(
    served: Served,
    raw: RawCase,
    options: EvaluationOptions,
    device: torch.device,
    ledger: Ledger,
    amp: torch.dtype | None = None,
) -> Segmentation:
    """Predicts a scan. How the file's axes run makes no difference: the model sees canonical order.

    Args:
        served: the model, on `device`.
        raw: the scan.
        options: window, overlap, precision and mirroring.
        device: of the model.
        ledger: asked for the memory.
        amp: autocast type.

    Raises:
        LifelongCTError: the scan has another number of channels than the model, or organs cannot be mirrored.
        LimitExceeded: the memory is not there.
    """
    channels, organs = raw.image.size // math.prod(raw.shape), served.label_space.channels
    if channels != served.channels:
        raise LifelongCTError(
            f"the scan has {channels} channels, the model {served.channels}",
            "the scan",
            "give one file per channel, with commas between",
        )
    mirroring, certainty = mirroring_of(options, organs), Certainty()
    shape = upright_shape(raw.shape, raw.affine, served.spacing)
    need = evaluation_bytes(shape, raw.shape, channels, 1 + len(organs), options)
    with ledger.reserve("ram", EVALUATION, need):
        ready = to_model(raw, served.spacing)
        labels = predict_labels(
            served.model,
            ready.image.reshape(channels, *ready.shape),
            options.roi,
            options.overlap,
            device,
            amp,
            precision=options.precision,
            mirroring=mirroring,
            certainty=certainty,
        )
        native = to_scan(labels, ready, raw)
    return Segmentation(native, _volumes(native, raw, served), certainty)


def _volumes(labels: npt.NDArray[np.uint8], raw: RawCase, served: Served) -> dict[str, float]:
    organs, contains = served.label_space.channels, served.label_space.vocabulary.contains
    counts = np.zeros(1 + len(organs), np.int64)
    for plane in labels:  # of the whole, bincount would make 8 bytes per voxel
        counts += np.bincount(plane.ravel(), minlength=len(counts))
    ml = float(np.prod(raw.spacing)) / MM3_PER_ML
    return {
        organ: ml * int(sum(counts[i] for i, name in enumerate(organs, 1) if contains(organ, name)))
        for organ in organs
    }
