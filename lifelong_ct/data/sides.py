"""Left and right of an organ whose source does not tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

TISSUE = -300
"""HU that parts a body from the air around it."""
SEEN = 0.5
"""Share of the body's lateral rows that must end inside the scan for its outline to tell the midline."""
DOUBT_SEEN, DOUBT_UNSEEN = 10.0, 0.15
"""How far off the midline may be: mm from an outline, share of the scan's width without one. Against the spine the
outline was off by at most 5 mm in six scans; the centre of a scan that the body fills by 21 mm of 180."""
NECK_REACH = 20.0
"""mm around the midline, beside its doubt, in which two halves of an organ meet."""
NECK, SHARE = 0.5, 0.1
"""Two halves that touch: their cross-section narrows to this part of the smaller's widest, and each has at least
this share of the voxels."""
APART = 50.0
"""mm between the middles of parts that lie on either side of the body, where nothing else tells the midline."""
BOTH = 0.3
"""Share of the voxels on either side from which an organ without a neck is taken for two that have grown together."""
_COARSE = 128


@dataclass(frozen=True)
class Midline:
    """The sagittal plane that parts the body.

    Attributes:
        at: mm along the first voxel axis, from the middle of the first voxel.
        doubt: mm by which it may be off.
        seen: whether the body's outline tells it.
    """

    at: float
    doubt: float
    seen: bool


def midline(image: npt.NDArray[np.int16], spacing: Sequence[float], modality: str = "CT") -> Midline:
    """Where the body's midline lies: the median, over all lateral rows of voxels, of the middle between the body's
    first and last voxel.

    The body is the largest connected thing above -300 HU (above Otsu's threshold where the scan is no CT), tables
    and other thin things opened away. Rows in which it reaches the edge of the scan tell nothing and are left
    out; where more than half do, the scan is cut off at the sides and its own centre stands in, with `seen` False.

    Args:
        image: `[D, H, W]` or `[C, D, H, W]`, of which the first channel counts; the first axis left to right.
        spacing: mm per axis.
        modality: CT, or something else.
    """
    first = image[0] if image.ndim == 4 else image
    steps = [-(-n // _COARSE) for n in first.shape]
    coarse = first[tuple(slice(None, None, step) for step in steps)]
    tissue = coarse > (TISSUE if modality == "CT" else _otsu(coarse))
    body = _largest(ndimage.binary_dilation(ndimage.binary_erosion(tissue, border_value=1)) & tissue)
    rows = body.any(axis=0)
    low, high = body.argmax(axis=0), len(body) - 1 - body[::-1].argmax(axis=0)
    free = rows & (low > 0) & (high < len(body) - 1)
    width = (first.shape[0] - 1) * spacing[0]
    if not free.any() or free.sum() < SEEN * rows.sum():
        return _centre(width)
    at = float(np.median((low + high)[free])) / 2 * steps[0] + (steps[0] - 1) / 2
    return Midline(at * spacing[0], DOUBT_SEEN, True)


def split_sides(
    both: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64],
    middle: Midline | None = None,
    known: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None = None,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Left and right part of a paired organ.

    Each connected part goes to the side of the organ with known sides that it shares most voxels or faces with,
    if there is one; else to the side of the midline on which its own middle lies. A part that is both halves, grown
    together or touching (horseshoe kidney, lungs), is cut at the sagittal plane near the midline where it is
    narrowest; without a narrow place, but with 30 % of it on either side, at the midline itself. Where the outline
    of the body does not tell the midline, two large parts whose middles are 50 mm apart tell it.

    Args:
        both: bool `[D, H, W]`, the first axis lateral; its direction is the affine's.
        affine: voxel index → mm (RAS+).
        middle: of the body; the middle of the array where None, which is as good as a scan without an outline.
        known: masks of an organ on the left and on the right that the parts lie in or at (the kidneys, for their
            tumours).

    Raises:
        ValueError: a part with a tenth of the voxels lies in the middle of a scan that shows no outline: its side
            cannot be told. Smaller ones go by their own middle.
    """
    labels, count = ndimage.label(both)
    if not count:
        return both, both.copy()
    step = float(np.linalg.norm(affine[:3, 0]))
    middle = middle or _centre((len(both) - 1) * step)
    sizes, centres = _measured(labels, count, step)
    told = np.zeros(count) if known is None else _neighbours(labels, count, known)
    rightwards = affine[0, 0] > 0
    above = told > 0 if rightwards else told < 0
    alone = told == 0
    middle = _by_parts(sizes[alone], centres[alone], middle)
    above[alone] = centres[alone] > middle.at
    last_below = np.where(above, -1, len(both)).astype(np.int16)
    for k, box in enumerate(ndimage.find_objects(labels)):
        if alone[k] and sizes[k] >= SHARE * sizes.sum():
            profile = np.zeros(len(both), np.int64)
            profile[box[0]] = np.count_nonzero(labels[box] == k + 1, axis=(1, 2))
            last_below[k] = _cut(profile, step, middle, int(last_below[k]))
    is_above = np.arange(len(both))[:, None, None] > np.append(np.int16(0), last_below)[labels]
    right = is_above if rightwards else ~is_above
    if known is not None:
        right = (right | known[1]) & ~known[0]
    return both & ~right, both & right


def _cut(profile: npt.NDArray[np.int64], step: float, middle: Midline, else_: int) -> int:
    """The last plane of the lower half of a part that is two; `else_` for one that is not."""
    size, at = profile.sum(), np.arange(len(profile)) * step
    below = np.cumsum(profile)
    widest_below, widest_above = np.maximum.accumulate(profile), np.maximum.accumulate(profile[::-1])[::-1]
    off = np.abs(at[:-1] + step / 2 - middle.at)
    shared = (below[:-1] >= SHARE * size) & (below[:-1] <= (1 - SHARE) * size)
    near = np.flatnonzero(shared & (off <= NECK_REACH + middle.doubt))
    if len(near):
        necks = (profile[near] + profile[near + 1]) / 2
        depth = necks / np.minimum(widest_below[near], widest_above[near + 1])
        best = np.lexsort((off[near], depth))[0]
        if depth[best] <= NECK:
            return int(near[best])
    centre = float(profile @ at) / size
    if not middle.seen and abs(centre - middle.at) < middle.doubt:
        raise ValueError(f"a part of {size} voxels lies in the middle of a scan that is cut off at its sides")
    plane = int(np.floor(middle.at / step))
    split = middle.seen and BOTH * size <= below[np.clip(plane, 0, len(at) - 1)] <= (1 - BOTH) * size
    return plane if split else else_


def _by_parts(sizes: npt.NDArray[np.int64], centres: npt.NDArray[np.float64], middle: Midline) -> Midline:
    """The plane between two large parts far from one another, where the outline does not tell the midline."""
    if middle.seen:
        return middle
    large = np.sort(centres[sizes >= SHARE * sizes.sum()])
    gaps = np.diff(large)
    if not len(gaps) or gaps.max() < APART:
        return middle
    k = int(gaps.argmax())
    return Midline(float(large[k] + large[k + 1]) / 2, 0.0, True)


def _measured(
    labels: npt.NDArray[np.int32], count: int, step: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Voxels of each part, and where its middle lies in mm along the first axis."""
    sizes, moments = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for i, plane in enumerate(labels):
        counts = np.bincount(plane.ravel(), minlength=count + 1)
        sizes += counts
        moments += i * counts
    return sizes[1:], moments[1:] / sizes[1:] * step


def _neighbours(
    labels: npt.NDArray[np.int32], count: int, known: Sequence[npt.NDArray[np.bool_]]
) -> npt.NDArray[np.float64]:
    """Per part: 1 where it shares more voxels or faces with the right organ, -1 with the left, 0 with neither."""
    reach = ndimage.grey_dilation(labels, footprint=ndimage.generate_binary_structure(3, 1))
    left, right = (np.bincount(reach[mask], minlength=count + 1)[1:] for mask in known)
    return np.sign(right - left).astype(np.float64)


def _centre(width: float) -> Midline:
    return Midline(width / 2, DOUBT_UNSEEN * width, False)


def _largest(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=2)
    sizes[0] = 0
    return labels == sizes.argmax() if count else mask


def _otsu(image: npt.NDArray[np.int16]) -> float:
    """The threshold that parts dark and bright best (Otsu, IEEE Trans. SMC 1979, doi 10.1109/TSMC.1979.4310076)."""
    counts, edges = np.histogram(image, 128)
    middles = (edges[:-1] + edges[1:]) / 2
    low = np.cumsum(counts)[:-1]
    high = counts.sum() - low
    sum_low = np.cumsum(counts * middles)[:-1]
    mean_low = sum_low / np.maximum(low, 1)
    mean_high = ((counts * middles).sum() - sum_low) / np.maximum(high, 1)
    return float(edges[1:-1][np.argmax(low * high * (mean_high - mean_low) ** 2)])
