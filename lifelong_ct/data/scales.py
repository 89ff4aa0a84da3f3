"""From the numbers of a file to int16: HU for CT, a scale of its own per case and channel for what is no CT.

What is no CT is brought to the numbers that the default window of the models, [-175, 250], shows, so that one
network, one augmentation and one padding serve every modality. Numbers beyond the window are kept too: they only
end where int16 ends.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.plausible import check_hounsfield
from lifelong_ct.data.types import bad_file

AIR = -1024
LEAST_RANGE = 500
"""HU between the darkest and the brightest voxel of a CT scan, at least: windowed or normalised pictures have
less."""
LOW, HIGH = -175, 250
"""Ends of the default window of the models."""
PERCENTILES = (0.5, 99.5)
PER_MM = 10
"""Steps per mm of a signed distance; its surface lies at `SURFACE`, about the middle of the window."""
SURFACE = 37

Scale = tuple[float, float]
Scaled = tuple[npt.NDArray[np.int16], Scale]


def to_int16(path: Path, voxels: npt.NDArray[np.generic], modality: str) -> Scaled:
    """One channel as int16, and (slope, offset): int16 × slope + offset is the file's number, to half a slope.

    Args:
        path: of the file, for errors.
        voxels: any real type.
        modality: one of `MODALITIES`.

    Raises:
        DataError: non-finite, modality; implausible-hu, constant-image or out-of-range by the modality's rule.
    """
    if voxels.dtype.kind == "f" and not all(np.isfinite(part).all() for part in voxels):
        what = "it has voxels that are no numbers (NaN or infinite)"
        raise bad_file(path, what, "non-finite", "export it again")
    return MODALITIES[modality](path, voxels)


def each_modality(modality: str, channels: int, where: str) -> list[str]:
    """The modality of each channel: `MR` is that of all, `CT+MR` one after the other.

    Raises:
        DataError: modality, where one is unknown or their number is not that of the channels.
    """
    given = modality.split("+")
    unknown = [name for name in given if name not in MODALITIES]
    if unknown:
        fix = f"there are {', '.join(MODALITIES)}; one for all channels, or one each such as CT+MR"
        raise DataError(f"the modality {unknown[0]!r} is unknown", where, fix, "modality")
    if len(given) not in (1, channels):
        what = f"the modality {modality} is of {len(given)} channels, the case has {channels}"
        raise DataError(what, where, "name one for all channels, or one each", "modality")
    return given if len(given) == channels else given * channels


def _hounsfield(path: Path, voxels: Any) -> Scaled:
    """HU as they are; padding below air becomes air."""
    low, high = float(voxels.min()), float(voxels.max())
    if high - low < LEAST_RANGE:
        raise bad_file(
            path,
            f"its values reach from {low:g} to {high:g}, a CT scan in HU from about -1000 to over 500",
            "implausible-hu",
            "export it in HU, neither windowed nor normalised",
        )
    check_hounsfield(path, voxels, low, high)
    out = np.empty(voxels.shape, np.int16)
    whole = voxels.dtype.kind != "f"
    bottom, top = max(AIR, low), min(np.iinfo(np.int16).max, high)
    if whole:
        bottom, top = int(bottom), int(top)
    for plane, part in zip(out, voxels, strict=True):  # one at a time: no second copy of a scan
        clipped = np.clip(part, bottom, top)
        plane[...] = clipped if whole else np.rint(clipped)
    return out, (1.0, 0.0)


def _percentiles(path: Path, voxels: Any) -> Scaled:
    """The 0.5th and 99.5th percentile of the voxels that are not 0 become the ends of the window.

    Ma et al., "Segment anything in medical images", arXiv 2304.12306, normalise MR this way (`pre_CT_MR.py`).
    Percentiles of what is not 0 depend neither on padding nor on single bright voxels, and unlike a z-score
    they end in the window that the models clip to.
    """
    shown = voxels[voxels != 0]
    low, high = map(float, np.percentile(shown, PERCENTILES)) if shown.size else (0.0, 0.0)
    if not 0 < high - low < np.inf:
        what = f"all of its voxels that are not 0 are {low:g}" if shown.size else "all of its voxels are 0"
        raise bad_file(path, what, "constant-image", "export it again, or remove the case")
    return _scaled(voxels, (high - low) / (HIGH - LOW), low, LOW)


def _shape(path: Path, voxels: Any) -> Scaled:
    """0 (outside) and 1 (inside), or a share between, become the ends of the window."""
    low, high = float(voxels.min()), float(voxels.max())
    if low < 0 or high > 1:
        what = f"its values reach from {low:g} to {high:g}, a shape's from 0 (outside) to 1 (inside)"
        raise bad_file(path, what, "out-of-range", "give a share of each voxel, or another modality")
    if low == high:
        raise bad_file(path, f"all of its voxels are {low:g}", "constant-image", "give a shape with a border")
    return _scaled(voxels, 1 / (HIGH - LOW), 0.0, LOW)


def _distance(path: Path, voxels: Any) -> Scaled:
    """mm, negative inside: 0.1 mm per step, the inside bright; ±20 mm fill the window."""
    if float(voxels.min()) >= 0 or float(voxels.max()) <= 0:
        what = "it has no surface: no change of sign"
        raise bad_file(path, what, "constant-image", "give distances in mm, negative inside")
    return _scaled(voxels, -1 / PER_MM, 0.0, SURFACE)


MODALITIES: dict[str, Callable[[Path, Any], Scaled]] = {
    "CT": _hounsfield,
    "MR": _percentiles,
    "US": _percentiles,
    "SHAPE": _shape,
    "SDF": _distance,
}
"""What a channel may be: CT, MR, US (ultrasound), SHAPE (mesh, points, occupancy), SDF (signed distance in mm)."""


def _scaled(voxels: Any, slope: float, zero: float, at: int) -> Scaled:
    """The number `zero` becomes `at`, and every `slope` one step more."""
    wide = voxels.astype(np.result_type(voxels, np.float32))
    wide -= zero
    wide /= slope
    wide += at
    limits = np.iinfo(np.int16)
    return _rounded(np.clip(wide, limits.min, limits.max, out=wide)), (slope, zero - slope * at)


def _rounded(voxels: Any) -> npt.NDArray[np.int16]:
    return np.ascontiguousarray(np.rint(voxels)).astype(np.int16)
