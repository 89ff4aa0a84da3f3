"""From label maps and masks to local label ids: merges, left/right splits, and overlaps kept without loss."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.types import OTHER, UNKNOWN, Case
from lifelong_ct.data.images import same_grid
from lifelong_ct.data.label_in_air import check_air
from lifelong_ct.data.overlay import NOBODY_KNOWS, Overlay
from lifelong_ct.data.readers import read_ids
from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.sides import midline
from lifelong_ct.data.types import RawCase, Volume, bad_file
from lifelong_ct.data.vocabulary import Vocabulary, default_vocabulary

Array = npt.NDArray[Any]
ROUNDING = 1e-4
"""What a slope such as 1/255 leaves of a whole id."""


@dataclass(frozen=True)
class Rules:
    """What a hospital allows in its labels.

    Attributes:
        other_labels: error or ignore, for ids in a label map that are not declared.
        empty_labels: error or ignore, for a case without any labelled voxel.
        priority: organs; where two that may not contain one another overlap, the earlier keeps the voxel.
        shapes: how meshes, points and fields lie in space.
        vocabulary: names, sides and containment.
    """

    other_labels: str = "error"
    empty_labels: str = "error"
    priority: tuple[str, ...] = ()
    shapes: Shapes = Shapes()  # noqa: RUF009 - frozen
    vocabulary: Vocabulary = field(default_factory=default_vocabulary)


def annotate(case: Case, image: RawCase, rules: Rules) -> RawCase:
    """The image with the labels of its case, as local ids; unchanged where there are none.

    What the source annotates beside `case.organs` is not lost where it lies in one of them: a tumour that is not
    asked for is liver. Its sides are those of what it lies in.

    Raises:
        DataError: as `read_label`; or unknown-label, not-a-mask, empty-label, overlap, unknown-side,
            label-in-air, shape-mismatch, geometry-mismatch.
    """
    if case.label is None:
        return image
    overlay = (_from_masks if case.masks else _from_map)(case, image, rules)
    if rules.empty_labels == "error" and not overlay.label.any():
        raise bad_file(
            case.label, "nothing is labelled", "empty-label", "remove the case, or empty_labels: ignore"
        )
    splits = _splits(case, rules.vocabulary)
    if splits:
        try:
            middle = midline(image.image, image.spacing, case.modality.split("+")[0])
            overlay.split(splits, image.affine, middle, rules.vocabulary)
        except ValueError as error:
            fix = "label the sides, or leave the sided organs out of stream.organs"
            raise bad_file(case.label, str(error), "unknown-side", fix) from error
    profiles = overlay.profiles()
    counts = profiles.sum(axis=1)
    sets = _settled(case, overlay, counts, rules)
    _check_sides(case, sets, profiles, image.affine, rules.vocabulary)
    if case.modality.split("+")[0] == "CT":
        scan = image.image.reshape(-1, *image.shape)[0]
        check_air(case.label, case.organs, sets, counts, overlay.label, scan, rules.vocabulary)
    label, overlaps = _local(case.organs, sets, overlay.label, counts > 0)
    return replace(image, label=label, organs=case.organs, overlaps=overlaps)


def read_label(path: Path, like: RawCase | None = None, shapes: Shapes | None = None) -> Volume:
    """A label map with whole, non-negative ids; a shape is 1 inside, on the grid of `like`.

    Raises:
        DataError: as the reader of the file, or fractional-label, unknown-label.
    """
    volume = read_ids(path, like, shapes)
    voxels = whole = np.asarray(volume.voxels)
    if voxels.dtype.kind == "f":
        whole = np.rint(voxels)
        planes = zip(voxels, whole, strict=True)  # one at a time: no room was asked for the whole difference
        if not all(np.isfinite(a).all() and np.abs(b - a).max() <= ROUNDING for a, b in planes):
            raise bad_file(
                path, "its values are not whole", "fractional-label", "resample labels with nearest neighbour"
            )
    low, high = int(whole.min()), int(whole.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise bad_file(
            path,
            f"its ids reach from {low} to {high}",
            "unknown-label",
            "use ids from 0 to 65535 and declare them",
        )
    return replace(volume, voxels=whole.astype(np.uint8 if high < 256 else np.uint16, copy=False))


def _from_masks(case: Case, image: RawCase, rules: Rules) -> Overlay:
    assert case.label is not None
    overlay = Overlay(image.shape, _used(case, case.masks, rules.vocabulary))
    organs_of: dict[str, list[str]] = {}
    for organ in overlay.organs:
        for name in case.mask_names(organ):
            organs_of.setdefault(name, []).append(organ)
    for name, organs in organs_of.items():
        volume = read_label(case.label / name, image, rules.shapes)
        same_grid(case.label / name, volume, image)
        mask = np.asarray(volume.voxels, bool)
        if volume.voxels.max() > 1 and (volume.voxels[mask] != volume.voxels.max()).any():
            raise bad_file(
                case.label / name,
                "it has several ids, the mask of one organ only one",
                "not-a-mask",
                "give one mask per organ, or one label map for all",
            )
        overlay.add(organs, mask)
    return overlay


def _from_map(case: Case, image: RawCase, rules: Rules) -> Overlay:
    assert case.label is not None
    volume = read_label(case.label, image, rules.shapes)
    same_grid(case.label, volume, image)
    overlay = Overlay(image.shape, _used(case, case.label_ids, rules.vocabulary))
    declared = {number for numbers in case.label_ids.values() for number in numbers}
    undeclared: list[int] = []

    def organs_of(number: int) -> Iterable[int]:
        if number and number not in declared:
            undeclared.append(number)
        found = [i for i, organ in enumerate(overlay.organs) if number in case.label_ids[organ]]
        return found or [NOBODY_KNOWS] * (number in case.label_ids.get(UNKNOWN, ()))

    overlay.fill(volume.voxels, organs_of)
    if undeclared and rules.other_labels == "error":
        raise bad_file(
            case.label,
            f"the ids {undeclared[:5]} are not declared",
            "unknown-label",
            "declare them, or other_labels: ignore",
        )
    return overlay


def _splits(case: Case, vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """The pairs whose sides make a difference to the organs of a case, and those that they lie in."""
    contains = vocabulary.contains
    asked = [
        pair for pair in case.splits if any(contains(o, pair[0]) != contains(o, pair[1]) for o in case.organs)
    ]
    return [pair for pair in case.splits if any(contains(pair[0], inner[0]) for inner in asked)]


def _used(case: Case, labelled: Collection[str], vocabulary: Vocabulary) -> list[str]:
    """The organs of a case, and what else the source labels that lies in them or tells a side of them."""
    contains, splits = vocabulary.contains, _splits(case, vocabulary)
    others = [organ for organ in labelled if organ not in (*case.organs, OTHER, UNKNOWN)]
    used = dict.fromkeys(case.organs)
    used |= dict.fromkeys(o for o in others if any(contains(organ, o) for organ in case.organs))
    for pair in splits:
        around = (o for o in others if contains(o, pair[0]) != contains(o, pair[1]))
        used |= dict.fromkeys((*(one for one in pair if one in labelled), *around))
    return list(used)


def _settled(case: Case, overlay: Overlay, counts: Array, rules: Rules) -> list[tuple[str, ...] | None]:
    """Per value of the overlay the organs of the case that its voxels lie in; None where nobody knows.

    Raises:
        DataError: overlap, of organs that neither contain one another nor have a priority.
    """
    vocabulary = rules.vocabulary
    sets: list[tuple[str, ...] | None] = []
    clashes: list[tuple[tuple[str, ...], int]] = []
    for members, count in zip(overlay.sets, counts.tolist(), strict=True):
        labelled = {overlay.organs[i] for i in members if i != NOBODY_KNOWS}
        extra = labelled - set(case.organs)
        names = tuple(
            o for o in case.organs if o in labelled or any(vocabulary.contains(o, inner) for inner in extra)
        )
        ranked = [organ for organ in rules.priority if organ in names]
        if len(names) > 1 and vocabulary.innermost(names) is None:
            if ranked:
                names = tuple(organ for organ in names if vocabulary.contains(organ, ranked[0]))
            elif count:
                clashes.append((names, count))
        sets.append(names if names or NOBODY_KNOWS not in members else None)
    if clashes:
        raise _overlap(case, clashes)
    return sets


def _overlap(case: Case, clashes: Sequence[tuple[tuple[str, ...], int]]) -> DataError:
    told = "; ".join(f"{' and '.join(names)} share {count} voxels" for names, count in clashes[:3])
    more = f"; and {len(clashes) - 3} more such sets" if len(clashes) > 3 else ""
    organs = dict.fromkeys(organ for names, _ in clashes for organ in names)
    assert case.label is not None
    masks = dict.fromkeys(name for organ in organs if organ in case.masks for name in case.mask_names(organ))
    files = [case.label / name for name in masks] or [case.label]
    return DataError(
        f"{told}{more}: neither contains the other",
        ", ".join(map(str, files)),
        f"mend the labels, or say which one wins: priority: [{next(iter(organs))}]",
        "overlap",
    )


def _local(
    organs: tuple[str, ...], sets: Sequence[tuple[str, ...] | None], label: Array, shown: Array
) -> tuple[Any, tuple[tuple[int, ...], ...]]:
    """Label and overlaps of a `RawCase`, of the sets that are shown."""
    table = np.zeros(len(sets), np.uint16)
    overlaps: dict[tuple[int, ...], int] = {}
    for value, names in enumerate(sets):
        if shown[value] and names != ():
            members = tuple(organs.index(organ) for organ in names or ())
            alone = len(members) == 1
            table[value] = (
                members[0] + 1 if alone else len(organs) + overlaps.setdefault(members, len(overlaps) + 1)
            )
    small = len(organs) + len(overlaps) < 256
    return (table.astype(np.uint8) if small else table)[label], tuple(overlaps)


def _check_sides(
    case: Case,
    sets: Sequence[tuple[str, ...] | None],
    profiles: Array,
    affine: npt.NDArray[np.float64],
    vocabulary: Vocabulary,
) -> None:
    """Finds labels that are mirrored against the patient, which no shape or affine shows: what is on the right must
    lie to the right. Organs lie askew and single voxels stray, so only three quarters of the one beyond three
    quarters of the other count.
    """
    right_of: Mapping[str, str] = {"liver": "spleen"} | {
        organ: other for organ, other in vocabulary.mirror.items() if "right" in organ.split("_")
    }
    for right, left in right_of.items():
        if right not in case.organs or left not in case.organs:
            continue
        first, second = (
            np.array([names is not None and organ in names for names in sets]) @ profiles
            for organ in ((right, left) if affine[0, 0] > 0 else (left, right))
        )
        if first.any() and second.any() and _quantile(first, 0.75) < _quantile(second, 0.25):
            raise bad_file(
                case.label or Path(),
                f"{right} lies to the left of {left}: the labels are mirrored against the scan",
                "geometry-mismatch",
                "mirror them back, or swap the organs' ids",
            )


def _quantile(profile: Array, share: float) -> int:
    """The plane up to which a share of the voxels lies."""
    return int(np.searchsorted(np.cumsum(profile), share * profile.sum()))
