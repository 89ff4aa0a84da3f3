"""Words of the library, as types. Axis letters: B batch, C channel or class, D H W voxel axes, S mm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "test"]
OTHER, UNKNOWN = "other", "unknown"
"""Keys of `Case.label_ids` that are no organs; see there."""


_NOTHING: Mapping[str, Any] = {}
"""Shared, so that 30,000 cases do not hold a dict each for what they do not have."""


def _nothing() -> Mapping[str, Any]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Case:
    """One scan with its labels at one hospital. Metadata only, never voxels.

    Attributes:
        hospital: name of the hospital.
        id: the source's own identifier. Private: outside the ingest machine use `Identity.pseudonym`.
        patient: the source's patient identifier. Private likewise.
        split: train or test.
        organs: canonical organs that were annotated here, present or not; a stream leaves only those that it
            learns. `masks` and `label_ids` may hold more: they tell what lies in an organ, and on which side.
        images: one path per channel, a file or a folder of DICOM; none for a case that is drawn (phantom). Paths of
            URLs have the interface of `pathlib.Path`; see `core.paths`.
        label: path of the combined label map, or of the folder of `masks`; None without labels.
        masks: organ → name of its binary mask in the folder `label`, several where a source has finer classes
            (lobes of a lung); empty for a combined map.
        label_ids: organ → voxel values in `label` that are this organ; several where a source has finer
            classes. Two organs may share a value: it lies in both of them. Under `OTHER` values that are no
            organ; under `UNKNOWN` values of which nobody knows what they are, unless an organ of the case has
            them too.
        splits: pairs (left, right) of organs that the source does not tell apart; they share mask or values,
            and each voxel goes to the side of the body on which it lies.
        modality: CT, MR, …, of all channels or of each such as CT+MR; see `data.scales.MODALITIES`.
        licence: SPDX-like text.
        label_kind: expert, semi-automatic, model or synthetic.
        params: what a drawing layout needs to make the voxels again, as JSON values; `shape` among them,
            voxels per axis, and `channels` where there are several. Of files: `shapes`, how meshes, points and
            fields lie in space.
    """

    hospital: str
    id: str
    patient: str
    split: Split
    organs: tuple[str, ...]
    images: tuple[Path, ...] = ()
    label: Path | None = None
    masks: Mapping[str, str | tuple[str, ...]] = field(default_factory=_nothing)
    label_ids: Mapping[str, tuple[int, ...]] = field(default_factory=_nothing)
    splits: tuple[tuple[str, str], ...] = ()
    modality: str = "CT"
    licence: str = "unknown"
    label_kind: str = "expert"
    params: Mapping[str, Any] = field(default_factory=_nothing)

    @property
    def channels(self) -> int:
        """Images of the scan."""
        return len(self.images) or int(self.params.get("channels", 1))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every path that the case is read from, each once."""
        if self.label is None:
            return self.images
        names = dict.fromkeys(name for organ in self.masks for name in self.mask_names(organ))
        return (*self.images, *((self.label / name for name in names) if self.masks else (self.label,)))

    def mask_names(self, organ: str) -> tuple[str, ...]:
        """Names of the masks that together are an organ."""
        names = self.masks[organ]
        return (names,) if isinstance(names, str) else tuple(names)


@dataclass(frozen=True)
class EvaluationRow:
    """One score: after experience `after` (0: before any training), hospital, case, organ, metric.

    With `step` it was made within the experience, after so many of its optimizer steps. `patient` (a pseudonym) and
    `label_kind` tell about the case, not the score: they are no part of equality, and empty where nobody knows.
    """

    after: int
    hospital: str
    case: str
    organ: str
    metric: str
    value: float | None
    patient: str = field(default="", compare=False)
    label_kind: str = field(default="", compare=False)
    step: int | None = None
