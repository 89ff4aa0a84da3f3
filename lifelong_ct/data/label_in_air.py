"""Labels that lie where the scan has air."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.types import bad_file
from lifelong_ct.data.vocabulary import Vocabulary

AIR = -500
"""HU; tissue is denser, whatever the noise."""
MOST_AIR = 0.5
"""Share of an organ: what reaches over the surface of the body or of a lung has less."""


def check_air(
    path: Path,
    organs: Collection[str],
    sets: Sequence[tuple[str, ...] | None],
    counts: npt.NDArray[np.int64],
    label: npt.NDArray[Any],
    image: npt.NDArray[np.int16],
    vocabulary: Vocabulary,
) -> None:
    """Refuses an organ of tissue that is full of air: a label map of another scan, turned, or filled beyond the body.

    Args:
        path: of the labels, for the error.
        organs: that are annotated.
        sets: value of `label` → the organs that its voxels lie in.
        counts: voxels of each value.
        label, image: `[D, H, W]`, HU.
        vocabulary: knows which organs hold air.

    Raises:
        DataError: label-in-air.
    """
    in_air = np.zeros(len(sets), np.int64)
    for plane, hu in zip(label, image, strict=True):  # bincount makes eight bytes of each voxel
        in_air += np.bincount(plane[(plane != 0) & (hu < AIR)], minlength=len(sets))
    for organ in organs:
        if organ in vocabulary.airy:
            continue
        of_it = np.array([names is not None and organ in names for names in sets])
        voxels, air = int(counts[of_it].sum()), int(in_air[of_it].sum())
        if air > MOST_AIR * voxels:
            what = f"{100 * air / voxels:.0f} % of {organ} ({air} of {voxels} voxels) are below {AIR} HU: air"
            fix = "check that the labels are of this scan, and turned as it is"
            raise bad_file(path, what, "label-in-air", fix)
