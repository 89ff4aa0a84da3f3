"""Organs of real label maps in place of the drawn ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.phantom.anatomy import ORGANS, TISSUES, Points

TOTALSEGMENTATOR_V2: dict[str, int] = {
    "spleen": 1,
    "kidney_right": 2,
    "kidney_left": 3,
    "gall_bladder": 4,
    "liver": 5,
    "stomach": 6,
    "pancreas": 7,
    "aorta": 52,
    "postcava": 63,
}
"""Ids of the nine organs in label maps of TotalSegmentator v2 (arXiv 2208.05868)."""


def label_maps(folder: Path) -> list[Path]:
    """The NIfTI label maps of a folder.

    Raises:
        LifelongCTError: it does not exist, or holds none.
    """
    maps = sorted(folder.glob("*.nii.gz")) if folder.is_dir() else []
    if not maps:
        raise LifelongCTError(
            "there is no label map (*.nii.gz)", str(folder), "give a folder of them, or anatomy: null"
        )
    return maps


def place(
    tissues: npt.NDArray[np.uint8],
    path: Path,
    points: Points,
    rng: np.random.Generator,
    ids: Mapping[str, int] | None = None,
) -> npt.NDArray[np.uint8]:
    """Puts the organs of a label map into a drawn trunk.

    The middle of the map's organs comes to the middle of the drawn ones, at a size that varies by 5 %.

    Args:
        tissues: a drawn patient `[D, H, W]`; its organs become fat.
        path: label map.
        points: world coordinates of the voxels in mm.
        rng: chooses size and shift.
        ids: organ → id in the map; TotalSegmentator's where None.

    Returns:
        uint8 `[D, H, W]`, index into `TISSUES`.
    """
    loaded = nib.as_closest_canonical(nib.load(path))
    labels = np.asarray(loaded.dataobj)  # type: ignore[attr-defined]
    known = TOTALSEGMENTATOR_V2 if ids is None else ids
    mapped = np.zeros(labels.shape, np.uint8)
    for organ in ORGANS:
        mapped[labels == known[organ]] = TISSUES.index(organ)
    found = np.argwhere(mapped)
    if not len(found):
        raise LifelongCTError("none of the nine organs is in the label map", path.name, "give other maps")
    affine = np.asarray(loaded.affine)  # type: ignore[attr-defined]
    middle = affine[:3, :3] @ found.mean(0) + affine[:3, 3]
    size = 1 + 0.05 * rng.standard_normal()
    shift = 4.0 * rng.standard_normal(3)
    world = [m + (p - s) / size for m, p, s in zip(middle, points, shift, strict=True)]
    inverse = np.linalg.inv(affine)
    index = [sum(inverse[row, k] * world[k] for k in range(3)) + inverse[row, 3] for row in range(3)]
    organs = ndimage.map_coordinates(mapped, index, order=0, mode="constant", cval=0)
    drawn = tissues >= TISSUES.index(ORGANS[0])
    result = np.where(drawn, TISSUES.index("fat"), tissues).astype(np.uint8)
    body = tissues > 0
    result[(organs > 0) & body] = organs[(organs > 0) & body]
    return result
