"""Three planes through a case: the prediction as a tint, the reference as an outline."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

PLANES = ("sagittal", "coronal", "axial")
"""By the array axis that they cut; D H W are x y z of RAS+."""
WINDOW = (-175, 250)
"""HU of black and white: what the models see, and what `data.scales` brings other modalities to."""
TINTS = ("#56B4E9", "#E69F00", "#3DD9A4", "#F0E442", "#FF7A45", "#E79AC6", "#7FA8FF", "#B8E986")
"""Okabe & Ito (2008), lightened where the original is dark on dark tissue."""
PIXELS, MARGIN = 320, 15.0
"""Longest side of a picture, and mm of surroundings."""
LIMIT = 100_000
"""Bytes of a picture, at most; noise that does not compress costs resolution."""
_OPACITY, _COLOURS = 0.4, 128
Box = tuple[slice, slice, slice]
Plane = npt.NDArray[np.bool_]


class Within:
    """Where a label map has one of some values, as a bool array would say it, but made only for the part that is asked:
    a volume per organ is more than a case takes itself.

    Args:
        labels: integers `[D,H,W]`; a view will do.
        values: what counts.
    """

    def __init__(self, labels: npt.NDArray[Any], values: Sequence[int]) -> None:
        self._labels, self._values = labels, list(values)

    def __getitem__(self, part: int | tuple[int | slice, ...]) -> Plane:
        return np.isin(self._labels[part], self._values)

    def __iter__(self) -> Iterator[Plane]:
        return (self[d] for d in range(len(self._labels)))


class Shown(NamedTuple):
    """A case to draw, on one grid.

    Attributes:
        image: int16 `[D,H,W]`, HU for CT.
        predicted, reference: organ → bool `[D,H,W]`.
        spacing: mm per array axis.
    """

    image: npt.NDArray[np.int16]
    predicted: Mapping[str, Plane | Within]
    reference: Mapping[str, Plane | Within]
    spacing: Sequence[float]


def draw(shown: Shown, organ: str) -> dict[str, bytes]:
    """PNGs of the planes in which `organ` is most wrong, or largest where nothing is wrong.

    As radiologists look: the patient's right is on the left, from the feet; sagittal planes look to the right.

    Returns:
        plane → PNG of at most `LIMIT` bytes.
    """
    cut = where(shown.predicted[organ], shown.reference[organ])
    return {plane: _small(shown, axis, cut[axis]) for axis, plane in enumerate(PLANES)}


def tints(organs: Sequence[str]) -> dict[str, str]:
    """A colour per organ; past the palette they repeat."""
    return {organ: TINTS[i % len(TINTS)] for i, organ in enumerate(organs)}


def where(predicted: Iterable[Plane], reference: Iterable[Plane]) -> tuple[int, int, int]:
    """Per axis the plane with the most voxels that differ; with the most voxels where none differs; the middle where
    there are none. Both are read plane by plane of their first axis."""
    both = _counts(np.stack((p ^ r, r)) for p, r in zip(predicted, reference, strict=True))
    for kind in (0, 1):
        if both[0][kind].any():
            d, h, w = (int(np.argmax(counts[kind])) for counts in both)
            return d, h, w
    d, h, w = (counts.shape[1] // 2 for counts in both)
    return d, h, w


def surroundings(mask: Iterable[Plane], spacing: Sequence[float]) -> Box:
    """The box around what is true, `MARGIN` mm wider; everything where nothing is. Read as `where` does."""
    found = [np.flatnonzero(counts) for counts in _counts(mask)]
    if not found[0].size:
        return (slice(None), slice(None), slice(None))
    d, h, w = (
        slice(max(0, int(at[0]) - _voxels(mm)), int(at[-1]) + 1 + _voxels(mm))
        for at, mm in zip(found, spacing, strict=True)
    )
    return d, h, w


def _counts(planes: Iterable[Plane]) -> list[npt.NDArray[np.int64]]:
    """True voxels in every plane of each axis, `[..., D]`, `[..., H]`, `[..., W]`, of D planes `[..., H, W]`; nothing
    as large as the volume is made."""
    rows, columns = [], np.int64(0)
    for plane in planes:
        rows.append(plane.sum(axis=-1))
        columns = columns + plane.sum(axis=-2)
    return [np.sum(rows, axis=-1).T, np.sum(rows, axis=0), np.asarray(columns)]


def _small(shown: Shown, axis: int, at: int) -> bytes:
    pixels = PIXELS
    while len(data := _picture(shown, axis, at, pixels)) > LIMIT and pixels > 64:
        pixels = pixels * 3 // 4
    return data


def _picture(shown: Shown, axis: int, at: int, pixels: int) -> bytes:
    cut: tuple[int | slice, ...] = (*[slice(None)] * axis, at)
    mm = [shown.spacing[other] for other in _others(axis)]
    grey = _turned(shown.image[cut]).astype(np.float32)
    size = _size(grey.shape, mm, pixels)
    low, high = WINDOW
    grey = np.clip((grey - low) * np.float32(255 / (high - low)), 0, 255)
    picture = _resized(grey.astype(np.uint8), size, Image.Resampling.BILINEAR).astype(np.float32)
    picture = np.repeat(picture[..., None], 3, axis=2)
    for organ, tint in tints(list(shown.reference)).items():
        colour = _rgb(tint)
        predicted, reference = (
            _mask(masks[organ][cut], size) for masks in (shown.predicted, shown.reference)
        )
        picture[predicted] = (1 - _OPACITY) * picture[predicted] + _OPACITY * colour
        picture[reference & ~ndimage.binary_erosion(reference, iterations=2)] = colour
    image = Image.fromarray(picture.astype(np.uint8)).quantize(_COLOURS, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    image.save(stream, format="png", optimize=True)
    return stream.getvalue()


def _others(axis: int) -> tuple[int, int]:
    first, second = (other for other in range(3) if other != axis)
    return first, second


def _turned(plane: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Second axis upwards, first axis from right to left."""
    return plane.T[::-1, ::-1]


def _size(shape: Sequence[int], mm: Sequence[float], pixels: int) -> tuple[int, int]:
    """(width, height) with square pixels."""
    width, height = shape[1] * mm[0], shape[0] * mm[1]
    scale = pixels / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _mask(plane: npt.NDArray[np.bool_], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    return _resized(_turned(plane).astype(np.uint8) * 255, size, Image.Resampling.NEAREST) > 127


def _resized(
    plane: npt.NDArray[np.uint8], size: tuple[int, int], how: Image.Resampling
) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, how))


def _rgb(tint: str) -> npt.NDArray[np.float32]:
    return np.array([int(tint[i : i + 2], 16) for i in (1, 3, 5)], np.float32)


def _voxels(mm: float) -> int:
    return round(MARGIN / mm)
