"""From tissues to HU: contrast phase, scanner, noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lifelong_ct.data.phantom.anatomy import TISSUES

PLAIN: dict[str, float] = {
    "air": -1000.0, "fat": -100.0, "muscle": 52.0, "bowel": 35.0, "bone": 600.0, "marrow": 180.0,
    "aorta": 42.0, "gall_bladder": 8.0, "kidney_left": 33.0, "kidney_right": 33.0, "liver": 57.0,
    "pancreas": 42.0, "postcava": 42.0, "spleen": 48.0, "stomach": 18.0,
}  # fmt: skip
"""Unenhanced HU, middle of the usual textbook ranges: liver 50-65, spleen 40-55, kidney 25-40, pancreas
35-50, blood 35-50, bile 0-15, muscle 45-60, fat -120 to -80."""

PHASES: dict[str, dict[str, float]] = {
    "unenhanced": {},
    "arterial": {
        "aorta": 320.0, "kidney_left": 150.0, "kidney_right": 150.0, "liver": 72.0, "pancreas": 108.0,
        "postcava": 75.0, "spleen": 130.0, "muscle": 58.0, "bowel": 60.0,
    },
    "portal_venous": {
        "aorta": 155.0, "kidney_left": 185.0, "kidney_right": 185.0, "liver": 112.0, "pancreas": 92.0,
        "postcava": 145.0, "spleen": 122.0, "muscle": 62.0, "bowel": 70.0,
    },
    "delayed": {
        "aorta": 105.0, "kidney_left": 200.0, "kidney_right": 200.0, "liver": 88.0, "pancreas": 72.0,
        "postcava": 105.0, "spleen": 92.0, "muscle": 62.0, "bowel": 62.0,
    },
}  # fmt: skip
"""HU after iodine about 35 s (late arterial), 70 s and 180 s after the injection, usual textbook ranges;
what is not listed stays as unenhanced."""


@dataclass(frozen=True)
class Scanner:
    """How a hospital scans.

    Attributes:
        field_of_view: mm in plane, the whole of the grid.
        slice_thickness: mm; slices lie side by side.
        kernel: standard deviation of the in-plane point spread in mm; sharp 0.5, soft 1.5.
        noise: standard deviation in HU.
        texture: correlation length of the noise in mm.
        table: whether the table is in the picture.
    """

    field_of_view: float = 360.0
    slice_thickness: float = 3.5
    kernel: float = 1.0
    noise: float = 15.0
    texture: float = 1.0
    table: bool = True


def tissue_hu(
    phase: str,
    spread: float,
    rng: np.random.Generator,
    enhancement: Mapping[str, float] | None = None,
    invert: float | None = None,
) -> npt.NDArray[np.float64]:
    """HU of every tissue of one patient, `[len(TISSUES)]`.

    Args:
        phase: key of `PHASES`.
        spread: standard deviation between patients in HU, for organs and soft tissue.
        rng: chooses the patient.
        enhancement: HU that replace those of the phase; not physical, for stress tests.
        invert: HU about which the contrast of everything but air is mirrored; likewise.
    """
    values = {**PLAIN, **PHASES[phase], **(enhancement or {})}
    hu = np.array([values[tissue] for tissue in TISSUES])
    varied = hu + spread * rng.standard_normal(len(hu)) * (np.abs(hu) < 500)
    if invert is not None:
        varied[1:] = 2 * invert - varied[1:]
    return varied


def scan(
    tissues: npt.NDArray[np.uint8],
    hu: npt.NDArray[np.float64],
    spacing: tuple[float, float, float],
    scanner: Scanner,
    rng: np.random.Generator,
) -> npt.NDArray[np.int16]:
    """The picture, int16 HU `[D, H, W]`."""
    image = hu[tissues]
    if scanner.table:
        _add_table(image)
    blur = (scanner.kernel / spacing[0], scanner.kernel / spacing[1], 0.3)
    image = ndimage.gaussian_filter(image, blur)
    noise = rng.standard_normal(image.shape)
    if scanner.texture > 0:
        noise = ndimage.gaussian_filter(
            noise, (scanner.texture / spacing[0], scanner.texture / spacing[1], 0)
        )
        noise /= noise.std()
    image += scanner.noise * noise
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)


def _add_table(image: npt.NDArray[np.float64]) -> None:
    """A slab behind the patient, where there is air."""
    rows = max(1, image.shape[1] // 32)
    slab = image[:, :rows]
    slab[slab < -900] = -250.0
