"""Surface elements ("surfels") of a mask, as DeepMind's surface-distance defines them.

Between every 2×2×2 voxels lies a point. Where some of them are inside and some are not, a piece of the surface goes
through it; marching cubes says how large it is (Nikolov et al. 2018, arXiv 1809.04430, section "Performance metrics").
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

# Per neighbour code 1 … 127 the normals of its triangles, as long as these are large: absolute components along D, H, W
# in eighths. From surface-distance 0.1, `lookup_tables.py` (Apache-2.0); 255 - code has the same.
_NORMALS = """
111 111 220,220 111 202,202 111,111 400,222,111 111 111,111 202,202 400,222,111 220,220 400,222,111
400,222,111 400,400 111 022,022 111,111 040,222,111 111,111 004,222,111 111,111,111 111,222,222,111
111,111 022,022,111 202,202,111 111,333,022,202 111,220,220 333,022,111,220 400,111,222,111 400,111,222
111 111,111 022,022 040,111,222 111,111 111,202,202 022,022,111 333,022,111,202 111,111 111,111,111
004,222,111 222,222,111,111 111,220,220 400,222,111,111 022,333,111,220 400,222,111 220,220 040,222,111
040,111,222 040,040 220,220,111 333,202,111,220 111,040,222,111 040,222,111 111,220,220 040,222,111,111
333,220,111,202 040,222,111 220,220,220,220 220,220,111 111,220,220 220,220 111 111,111 111,111
111,220,220 022,022 004,222,111 022,022,111 333,022,111,220 111,111 111,111,111 111,202,202
400,222,111,111 040,222,111 222,222,111,111 202,333,022,111 400,222,111 202,202 004,222,111 111,202,202
202,333,220,111 004,222,111 004,004 111,111,222,004 111,222,004 202,202,111 004,222,111,111
202,202,202,202 111,202,202 202,333,220,111 004,222,111 111,202,202 202,202 111,111 111,111,111
111,022,022 040,111,222,111 022,022,111 004,222,111,111 022,022,022,022 022,022,111 111,111,111
111,111,111,111 004,222,111,111 111,111,111 040,222,111,111 111,111,111 022,022,111 111,111 400,222,111
222,111,222,111 333,022,111,202 040,222,111 333,220,022,111 111,222,004 111,022,022 022,022
400,222,111,111 111,111,111 202,202,111 111,111 220,220,111 111,111 111,111 111
"""


@lru_cache(maxsize=256)
def areas(spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """The surface in mm² of every neighbour code.

    Computed in the order of surface-distance, to the last bit: a percentile of areas turns on it where many are equal.

    Args:
        spacing: mm per axis.

    Returns:
        float64 `[256]`, not to be written to.
    """
    d, h, w = spacing
    half = [0.0]
    for word in _NORMALS.split():
        area = 0.0
        for normal in word.split(","):
            n = [int(digit) / 8 for digit in normal]
            area += float(np.linalg.norm(np.array([n[0] * h * w, n[1] * d * w, n[2] * d * h])))
        half.append(area)
    table = np.array(half + half[::-1])
    table.flags.writeable = False
    return table


def neighbour_codes(mask: npt.NDArray[np.bool_], margin: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Which of its 8 voxels are inside, for every point between voxels; outside of the mask is nothing.

    Args:
        mask: bool `[D,H,W]`.
        margin: points of code 0 to add at each end, per axis.

    Returns:
        uint8 `[D+1+2m, H+1+2m, W+1+2m]`; bit 128 is the voxel that is lowest along all axes, then W, H and D rise.
    """
    whole = np.zeros([n + 1 + 2 * m for n, m in zip(mask.shape, margin, strict=True)], np.uint8)
    inner = whole[tuple(slice(m, n - m) for n, m in zip(whole.shape, margin, strict=True))]
    voxels = mask.view(np.uint8)
    d, h, w = mask.shape
    along_w = np.zeros((d, h, w + 1), np.uint8)
    along_w[:, :, :-1] = voxels
    along_w[:, :, 1:] |= voxels << 1
    along_h = np.zeros((d, h + 1, w + 1), np.uint8)
    along_h[:, :-1] = along_w
    along_h[:, 1:] |= along_w << 2
    del along_w
    inner[:-1] = along_h
    inner[1:] |= along_h << 4
    return whole


def on_surface(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Points with voxels of both kinds around them: all codes but 0 and 255, which wraps to 0."""
    return (codes + np.uint8(1)) > 1
