"""From the order of a file to canonical RAS+."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from lifelong_ct.data.types import Volume


def canonical(voxels: Any, affine: npt.NDArray[np.float64], shape: Sequence[int]) -> Volume:
    """A volume whose axes run to the right, forward and up.

    Args:
        voxels: three axes in the order of the file.
        affine: index → mm in that order, RAS+.
        shape: of the file; may have further axes of one.
    """
    turn = io_orientation(affine)
    return Volume(
        np.ascontiguousarray(apply_orientation(voxels, turn)),
        affine @ inv_ornt_aff(turn, voxels.shape),
        affine,
        tuple(shape),
    )
