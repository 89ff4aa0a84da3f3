"""The grid of a case, from headers; and the spacing that fits many of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import inv_ornt_aff, io_orientation

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data import readers
from lifelong_ct.data.readers.options import Shapes

ANISOTROPY = 3.0
"""An axis this many times coarser than the others, with as many times fewer voxels, is a thick-slice axis."""

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


def case_grid(layout: Any, case: Case) -> tuple[Shape, Spacing | None]:
    """Voxels and mm per axis of a case in canonical orientation; no voxel is decoded. The spacing of a drawn case
    is None where its layout offers no `spacing(case)`.

    Raises:
        DataError: as the reader of the file.
    """
    shape, affine = case_affine(case)
    if affine is None:
        return shape, layout.spacing(case) if hasattr(layout, "spacing") else None
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return shape, (x, y, z)


def case_affine(case: Case) -> tuple[Shape, npt.NDArray[np.float64] | None]:
    """Voxels per axis of a case and its affine `[4, 4]`, index → mm, both in canonical orientation; no voxel is decoded.
    A drawn case has no file that says an affine.

    Raises:
        DataError: as the reader of the file.
    """
    if not case.images:
        d, h, w = (int(n) for n in case.params["shape"])
        return (d, h, w), None
    shape, affine = readers.grid(case.images[0], Shapes.of(case.params.get("shapes")))
    turn = io_orientation(affine)
    sizes = {int(to): int(n) for to, n in zip(turn[:, 0], shape, strict=True)}
    return (sizes[0], sizes[1], sizes[2]), affine @ inv_ornt_aff(turn, shape)


def usual_spacing(shapes: npt.ArrayLike, spacings: npt.ArrayLike) -> Spacing:
    """The spacing that many scans are brought to: that of nnU-Net's full resolution (Isensee et al., Nature Methods
    2021, doi:10.1038/s41592-020-01008-z, supplementary note 2; `determine_fullres_target_spacing` of nnU-Net v2).

    The median of each axis. Where the coarsest axis is more than `ANISOTROPY` times coarser than both others
    and has that many times fewer voxels, its 10th percentile instead, so that thin slices are not thrown away;
    but not below the others.

    Args:
        shapes: voxels `[n, 3]`.
        spacings: mm `[n, 3]`.
    """
    mm, voxels = np.asarray(spacings, np.float64), np.asarray(shapes, np.float64)
    target, size = np.percentile(mm, 50, axis=0), np.percentile(voxels, 50, axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    coarse = target[worst] > ANISOTROPY * target[others].max()
    few = size[worst] * ANISOTROPY < size[others].min()
    if coarse and few:
        fine = float(np.percentile(mm[:, worst], 10))
        least = float(target[others].max())
        target[worst] = fine if fine >= least else least + 1e-5
    x, y, z = (float(s) for s in target)
    return x, y, z


def spacing_of(layout_cases: Iterable[tuple[Any, Case]]) -> Spacing:
    """`usual_spacing` of cases, from their headers.

    Args:
        layout_cases: cases, each with its layout.

    Raises:
        DataError: a header cannot be read.
        LifelongCTError: a layout that draws does not tell the spacing.
    """
    shapes, spacings = [], []
    for layout, case in layout_cases:
        try:
            shape, spacing = case_grid(layout, case)
        except DataError as error:
            raise DataError(error.what, f"case {case.id}, {error.where}", error.fix, error.code) from error
        if spacing is None:
            raise LifelongCTError(
                f"{type(layout).__name__} does not tell the spacing of its cases",
                f"stream.spacing=auto, hospital {case.hospital}",
                "give it a method spacing(case), or write stream.spacing=[x,y,z]",
            )
        shapes.append(shape)
        spacings.append(spacing)
    return usual_spacing(shapes, spacings)
