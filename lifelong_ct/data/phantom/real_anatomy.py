"""Real organs in place of drawn ones: label maps of patients whose scans are not there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.phantom.population import ORGANS
from lifelong_ct.data.phantom.shapes import Array

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
OTHERS: dict[str, tuple[int, ...]] = {
    "muscle": (*range(80, 90),),
    "bone": (*range(25, 51), *range(69, 79), *range(92, 118)),
    "lung": (*range(10, 15),),
    "content_0": (18, 19, 20),
    "heart": (51,),
}
"""Tissue → ids of the same map that fill in for drawn surroundings."""
KIDNEYS = (0.0, -38.0, 0.0)
"""Where the middle between the kidneys lies in patient coordinates, mm."""


@dataclass(frozen=True)
class LabelMap:
    """A label map in patient coordinates.

    Attributes:
        ids: uint8 `[D, H, W]`, canonical RAS+.
        to_index: `[3, 4]`, patient mm → voxel index.
        points: x and y of labelled voxels near the kidneys' height, mm `[2, n]`.
    """

    ids: npt.NDArray[np.uint8]
    to_index: Array
    points: Array

    def at(self, x: Array, y: Array, z: Array) -> npt.NDArray[np.uint8]:
        """Ids at points in mm, the nearest voxel's; 0 outside the map."""
        m = self.to_index
        index = [np.rint(m[a, 0] * x + m[a, 1] * y + m[a, 2] * z + m[a, 3]).astype(np.intp) for a in range(3)]
        inside = np.ones(x.shape, bool)
        for i, n in zip(index, self.ids.shape):
            inside &= (i >= 0) & (i < n)
        i, j, k = (np.where(inside, i, 0) for i in index)
        return np.where(inside, self.ids[i, j, k], 0).astype(np.uint8)

    def fit(self, wall: tuple[float, float]) -> float:
        """The factor on an elliptic wall (half axes in mm) that takes in all but 1 % of what is labelled."""
        x, y = self.points
        return float(np.sqrt(np.quantile((x / wall[0]) ** 2 + (y / wall[1]) ** 2, 0.99)))

    def has(self, tissue: str) -> bool:
        """Whether the map labels this surrounding tissue."""
        return bool(np.isin(self.ids, OTHERS[tissue]).any())


def label_maps(folder: Path) -> list[Path]:
    """The NIfTI label maps of a folder, by name.

    Raises:
        LifelongCTError: it does not exist, or holds none.
    """
    maps = sorted(folder.glob("*.nii.gz")) if folder.is_dir() else []
    if not maps:
        raise LifelongCTError(
            "there is no label map (*.nii.gz)",
            f"anatomy: {folder}",
            "give a folder of them, or anatomy: null",
        )
    return maps


@lru_cache(maxsize=4)
def read_map(path: Path) -> LabelMap:
    """Reads a map and puts the middle between its kidneys where the phantom has it.

    Raises:
        LifelongCTError: unreadable, or a kidney is missing.
    """
    try:
        loaded = nib.as_closest_canonical(nib.load(path))
        ids = np.asarray(loaded.dataobj).astype(np.uint8)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise LifelongCTError(
            f"unreadable label map: {error}", path.name, "remove it from the folder"
        ) from error
    affine = np.asarray(loaded.affine, dtype=np.float64)
    middles = []
    for kidney in ("kidney_left", "kidney_right"):
        found = np.argwhere(ids == TOTALSEGMENTATOR_V2[kidney])
        if not len(found):
            raise LifelongCTError(
                f"no {kidney} in the label map", path.name, "use maps of the whole upper abdomen"
            )
        middles.append(_world(affine, found.mean(0, dtype=np.float64)[:, None])[:, 0])
    affine[:3, 3] += np.asarray(KIDNEYS) - (middles[0] + middles[1]) / 2
    x, y, z = _world(affine, np.argwhere(ids > 0).T.astype(np.float64))
    near = np.abs(z) < 110
    return LabelMap(ids, np.linalg.inv(affine)[:3].astype(np.float64), np.stack([x[near], y[near]]))


def organ_ids() -> npt.NDArray[np.uint8]:
    """Table of 256: TotalSegmentator id → 1 + index in `ORGANS`, 0 for the rest."""
    table = np.zeros(256, np.uint8)
    for index, organ in enumerate(ORGANS, start=1):
        table[TOTALSEGMENTATOR_V2[organ]] = index
    return table


def _world(affine: Array, index: Array) -> Array:
    """Voxel indices `[3, n]` → mm `[3, n]`; sums, not a matrix product, whose last bit depends on the machine."""
    return sum(affine[:3, a, None] * index[a] for a in range(3)) + affine[:3, 3:]
