"""From label maps and masks to local label ids: merges, left/right splits, and overlaps kept without loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.types import Case
from lifelong_ct.data.images import same_grid
from lifelong_ct.data.labels import Vocabulary, default_vocabulary
from lifelong_ct.data.readers import read_ids
from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.types import RawCase, Volume, bad_file


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

    Raises:
        DataError: as `read_label`; or unknown-label, empty-label, overlap, shape-mismatch, geometry-mismatch.
    """
    if case.label is None:
        return image
    overlay = (_from_masks if case.masks else _from_map)(case, image, rules)
    for pair in case.splits:
        overlay.split(pair, image.affine)
    if rules.empty_labels == "error" and not overlay.label.any():
        raise bad_file(
            case.label, "nothing is labelled", "empty-label", "remove the case, or empty_labels: ignore"
        )
    label, overlaps = overlay.settled(case, rules)
    annotated = replace(image, label=label, organs=case.organs, overlaps=overlaps)
    _check_sides(case, annotated, rules.vocabulary)
    return annotated


def read_label(path: Path, like: RawCase | None = None, shapes: Shapes | None = None) -> Volume:
    """A label map with whole, non-negative ids; a shape is 1 inside, on the grid of `like`.

    Raises:
        DataError: as the reader of the file, or fractional-label, unknown-label.
    """
    volume = read_ids(path, like, shapes)
    voxels = np.asarray(volume.voxels)
    whole = np.rint(voxels)
    if not np.isfinite(voxels).all() or (whole != voxels).any():
        raise bad_file(
            path, "its values are not whole", "fractional-label", "resample labels with nearest neighbour"
        )
    if whole.min() < 0 or float(whole.max()) > np.iinfo(np.uint16).max:
        raise bad_file(
            path,
            f"its ids reach from {int(whole.min())} to {int(whole.max())}",
            "unknown-label",
            "use ids from 0 to 65535 and declare them",
        )
    return replace(volume, voxels=whole.astype(np.uint16))


class Overlay:
    """Local label ids that are laid over one another: a voxel's value names the set of organs it lies in.

    Args:
        shape: voxels `(D, H, W)`.
        organs: of the case.
    """

    def __init__(self, shape: Sequence[int], organs: Sequence[str]) -> None:
        self.organs = tuple(organs)
        self.label = np.zeros(tuple(shape), np.uint16)
        self.sets: list[tuple[int, ...]] = [()]
        self._value: dict[tuple[int, ...], int] = {(): 0}

    def value(self, members: Iterable[int]) -> int:
        """The value of a set of organs, given as positions in `organs`."""
        key = tuple(sorted(set(members)))
        if key not in self._value:
            self._value[key] = len(self.sets)
            self.sets.append(key)
        return self._value[key]

    def add(self, organ: str, mask: npt.NDArray[np.bool_]) -> None:
        """Lays a mask over what is there."""
        i, under = self.organs.index(organ), self.label[mask]
        self.label[mask] = self._moved(under, lambda members: (*members, i))

    def split(self, pair: tuple[str, str], affine: npt.NDArray[np.float64]) -> None:
        """Takes voxels that lie in both organs of a pair from the one on the other side of the body."""
        if not set(pair) <= set(self.organs):
            return
        left, right = (self.organs.index(organ) for organ in pair)
        both = np.isin(self.label, [v for v, m in enumerate(self.sets) if left in m and right in m])
        for part, gone in zip(split_sides(both, affine), (right, left), strict=True):
            self.label[part] = self._moved(self.label[part], partial(_without, gone))

    def settled(self, case: Case, rules: Rules) -> tuple[Any, tuple[tuple[int, ...], ...]]:
        """The label and overlaps of a `RawCase`.

        Raises:
            DataError: overlap, of organs that neither contain one another nor have a priority.
        """
        counts = np.bincount(self.label.ravel(), minlength=len(self.sets))
        table = np.zeros(len(self.sets), np.uint16)
        overlaps: dict[tuple[int, ...], int] = {}
        for value, members in enumerate(self.sets):
            if not counts[value] or not members:
                continue
            kept = members if len(members) == 1 else _settled(case, members, int(counts[value]), rules)
            table[value] = (
                kept[0] + 1
                if len(kept) == 1
                else len(self.organs) + overlaps.setdefault(kept, len(overlaps) + 1)
            )
        small = len(self.organs) + len(overlaps) < 256
        return (table.astype(np.uint8) if small else table)[self.label], tuple(overlaps)

    def _moved(
        self, values: npt.NDArray[np.uint16], change: Callable[[tuple[int, ...]], Iterable[int]]
    ) -> npt.NDArray[np.uint16]:
        table = np.zeros(len(self.sets), np.uint16)
        for value in np.unique(values).tolist():
            table[value] = self.value(change(self.sets[value]))
        return table[values]


def _without(gone: int, members: Sequence[int]) -> list[int]:
    return [i for i in members if i != gone]


def split_sides(
    both: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Left and right part of a paired organ: each connected component goes to the side of the middle of all on
    which its own middle lies.

    Args:
        both: bool `[D, H, W]`, the first axis to the patient's right (RAS+) as the affine says.
        affine: voxel index → mm.
    """
    parts, count = ndimage.label(both)
    if not count:
        return both, both.copy()
    middles = np.array(ndimage.center_of_mass(both, parts, range(1, count + 1)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    x = middles @ affine[0, :3] + affine[0, 3]
    middle = _between(x, sizes)
    is_right = np.concatenate([[False], x > middle])
    right = is_right[parts]
    return both & ~right, right


def _between(x: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64]) -> float:
    """The place in mm that parts left and right best, by the components' middles: Otsu's threshold."""
    order = np.argsort(x)
    x, sizes = x[order], sizes[order].astype(np.float64)
    if len(x) == 1:
        return 0.0
    low = np.cumsum(sizes)[:-1]
    high = sizes.sum() - low
    mean_low = np.cumsum(x * sizes)[:-1] / low
    mean_high = ((x * sizes).sum() - np.cumsum(x * sizes)[:-1]) / high
    cut = int(np.argmax(low * high * (mean_high - mean_low) ** 2))
    return float((x[cut] + x[cut + 1]) / 2)


def _settled(case: Case, members: tuple[int, ...], size: int, rules: Rules) -> tuple[int, ...]:
    """What stays of a set of organs that share voxels: all of them where each contains the next."""
    names = [case.organs[i] for i in members]
    if rules.vocabulary.innermost(names) is not None:
        return members
    ranked = [organ for organ in rules.priority if organ in names]
    if ranked:
        return tuple(i for i in members if rules.vocabulary.contains(case.organs[i], ranked[0]))
    raise DataError(
        f"{' and '.join(names)} share {size} voxels, and neither contains the other",
        ", ".join(str(path) for path in case.files if path not in case.images),
        f"mend the labels, or say which one wins: priority: [{names[0]}]",
        "overlap",
    )


def _from_masks(case: Case, image: RawCase, rules: Rules) -> Overlay:
    assert case.label is not None
    overlay = Overlay(image.image.shape[-3:], case.organs)
    organs_of: dict[str, list[str]] = {}
    for organ in case.organs:
        organs_of.setdefault(case.masks[organ], []).append(organ)
    for name, organs in organs_of.items():
        volume = read_label(case.label / name, image, rules.shapes)
        same_grid(case.label / name, volume, image)
        mask = np.asarray(volume.voxels, bool)
        for organ in organs:
            overlay.add(organ, mask)
    return overlay


def _from_map(case: Case, image: RawCase, rules: Rules) -> Overlay:
    assert case.label is not None
    volume = read_label(case.label, image, rules.shapes)
    same_grid(case.label, volume, image)
    counts = np.bincount(volume.voxels.ravel())
    overlay = Overlay(image.image.shape[-3:], case.organs)
    table = np.zeros(len(counts), np.uint16)
    undeclared = []
    declared = {number for numbers in case.label_ids.values() for number in numbers}
    for number in np.flatnonzero(counts).tolist():
        if number and number not in declared:
            undeclared.append(number)
        table[number] = overlay.value(
            i for i, organ in enumerate(case.organs) if number in case.label_ids[organ]
        )
    if undeclared and rules.other_labels == "error":
        raise bad_file(
            case.label,
            f"the ids {undeclared[:5]} are not declared",
            "unknown-label",
            "declare them, or other_labels: ignore",
        )
    overlay.label = table[volume.voxels]
    return overlay


def _check_sides(case: Case, annotated: RawCase, vocabulary: Vocabulary) -> None:
    """Finds labels that are mirrored against the patient, which no shape or affine shows: what is on the right
    must lie to the right."""
    right_of = {"liver": "spleen"}
    right_of |= {o: other for o, other in vocabulary.mirror.items() if o.endswith("_right")}
    for right, left in right_of.items():
        if right in case.organs and left in case.organs:
            x = [_lateral(annotated.mask(organ), annotated.affine) for organ in (right, left)]
            if x[0] is not None and x[1] is not None and x[0] <= x[1]:
                raise bad_file(
                    case.label or Path(),
                    f"{right} lies to the left of {left}: the labels are mirrored against the scan",
                    "geometry-mismatch",
                    "mirror them back, or swap the organs' ids",
                )


def _lateral(mask: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> float | None:
    """Middle of a mask in mm to the right; None where it is empty."""
    along = [np.count_nonzero(mask, axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    total = along[0].sum()
    if not total:
        return None
    middle = np.array([float(np.arange(len(counts)) @ counts) / total for counts in along])
    return float(affine[0, :3] @ middle + affine[0, 3])
