"""Words of the library, as types. Axis letters: B batch, C channel or class, D H W voxel axes, S mm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Case:
    """One scan with its labels at one hospital. Metadata only, never voxels.

    Attributes:
        hospital: name of the hospital.
        id: the source's own identifier. Private: outside the ingest machine use `Identity.pseudonym`.
        patient: the source's patient identifier. Private likewise.
        split: train or test.
        organs: canonical organs that were annotated here, present or not.
        image: path of the image, or None for a case that is drawn (phantom).
        label: path of the combined label map, or None.
        label_ids: canonical organ → voxel value in `label`.
        modality: CT or MR.
        licence: SPDX-like text.
        label_kind: expert, semi-automatic, model or synthetic.
        params: what a drawing layout needs to make the voxels again, as JSON values; `shape` among them,
            voxels per axis.
    """

    hospital: str
    id: str
    patient: str
    split: Split
    organs: tuple[str, ...]
    image: Path | None = None
    label: Path | None = None
    label_ids: Mapping[str, int] = field(default_factory=dict)
    modality: str = "CT"
    licence: str = "unknown"
    label_kind: str = "expert"
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRow:
    """One score: after experience `after` (0: before any training), hospital, case, organ, metric."""

    after: int
    hospital: str
    case: str
    organ: str
    metric: str
    value: float | None
