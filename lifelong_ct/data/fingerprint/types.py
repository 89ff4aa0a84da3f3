"""What is kept of a scan: key points in mm, and a code of what surrounds each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

BITS = 64
STEP = 2
"""mm; positions and extents are whole multiples."""
_LONGEST = 1023
_VERSION = 1
_RADII = (36.0, 36.0, 16.0)
"""Half axes in mm of the ellipsoid that a code describes: flat, as slabs and thick slices are."""
_APART = 0.8
"""Of the half axes."""


def _pattern() -> npt.NDArray[np.float64]:
    """Pairs of places around a key point `[2, BITS, 3]` in mm, denser near it. The two places of a pair are well
    apart: close ones are nearly as bright as each other, and say little."""
    draws = np.random.default_rng(0).normal(0.0, 0.5, (16 * BITS, 2, 3))
    inside = (np.linalg.norm(draws, axis=2) < 1).all(axis=1)
    apart = np.linalg.norm(draws[:, 0] - draws[:, 1], axis=1) > _APART
    return draws[inside & apart][:BITS].swapaxes(0, 1) * np.array(_RADII)


PATTERN = _pattern()


@dataclass(frozen=True)
class Fingerprint:
    """Key points of a scan, in mm from its first voxel along patient right, front and up.

    Attributes:
        extent: float32 `[3]`, mm between the first and the last voxel.
        points: float32 `[n, 3]`.
        bright: bool `[n]`, brighter than what surrounds it, or darker.
        codes: uint64 `[n]`; bit k says which place of the k-th pair of `PATTERN` is the brighter one.
    """

    extent: npt.NDArray[np.float32]
    points: npt.NDArray[np.float32]
    bright: npt.NDArray[np.bool_]
    codes: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def known(self) -> npt.NDArray[np.uint64]:
        """Bits of each code both places of which lie inside the scan `[n]`."""
        places = self.points[:, None, None] + PATTERN.astype(np.float32)
        inside = (places >= -STEP) & (places <= self.extent + STEP)
        return packed(np.all(inside, axis=(1, 3)))

    def to_bytes(self) -> bytes:
        """12 bytes per key point and 9 more."""
        x, y, z = (np.rint(self.points.T / STEP).clip(0, _LONGEST)).astype(np.uint32)
        where = x | y << 10 | z << 20 | self.bright.astype(np.uint32) << 30
        extent = np.rint(self.extent / STEP).clip(0, 65535).astype("<u2")
        size = len(self).to_bytes(2, "little")
        parts = (where.astype("<u4").tobytes(), self.codes.astype("<u8").tobytes())
        return bytes([_VERSION]) + size + extent.tobytes() + b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint | None:
        """Reads `to_bytes`; None where another version wrote it."""
        n = int.from_bytes(data[1:3], "little")
        if len(data) != 9 + 12 * n or data[0] != _VERSION:
            return None
        where = np.frombuffer(data, "<u4", n, 9)
        points = np.stack([where & 1023, where >> 10 & 1023, where >> 20 & 1023], axis=1)
        return cls(
            np.frombuffer(data, "<u2", 3, 3).astype(np.float32) * STEP,
            points.astype(np.float32) * STEP,
            (where >> 30 & 1).astype(bool),
            np.frombuffer(data, "<u8", n, 9 + 4 * n).astype(np.uint64),
        )


def blank() -> Fingerprint:
    """Of a scan that shows nothing."""
    none, nowhere = np.zeros(3, np.float32), np.zeros((0, 3), np.float32)
    return Fingerprint(none, nowhere, np.zeros(0, np.bool_), np.zeros(0, np.uint64))


def packed(bits: Any) -> npt.NDArray[np.uint64]:
    """Bool `[n, BITS]` as one number each."""
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").reshape(len(bits)).astype(np.uint64)
