"""Voxels of a file, and of a case as a layout gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import DataError


class Grid(Protocol):
    """Where voxels lie: a `Volume` or a `RawCase`."""

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """Voxel index → mm, `[4, 4]`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels `(D, H, W)`."""


@dataclass(frozen=True)
class Volume:
    """Numbers of one file in canonical RAS+ order, as a reader gives them.

    Attributes:
        voxels: `[D, H, W]`, scaled by the file's own slope and intercept.
        affine: float64 `[4, 4]`, voxel index → mm.
        original_affine: of the file.
        original_shape: of the file.
        modality: as the file says; None where it does not.
    """

    voxels: npt.NDArray[np.generic]
    affine: npt.NDArray[np.float64]
    original_affine: npt.NDArray[np.float64]
    original_shape: tuple[int, ...]
    modality: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels `(D, H, W)`."""
        d, h, w = self.voxels.shape[-3:]
        return d, h, w


@dataclass(frozen=True)
class RawCase:
    """A case on its own grid, in canonical RAS+ (array axes D H W are NIfTI x y z after reorientation).

    Attributes:
        image: int16 `[D, H, W]` or `[C, D, H, W]`, HU for CT.
        label: uint8 or uint16 `[D, H, W]`; value i in 1 … n is `organs[i - 1]` alone, n + k is all of
            `overlaps[k - 1]` at once, 0 is everything else. None where nothing was annotated.
        affine: float64 `[4, 4]`, voxel index → mm (RAS+).
        organs: the annotated canonical organs, in the order of `Case.organs`.
        overlaps: sets of organs that share voxels, as positions in `organs`, ascending; nothing is lost where
            masks overlap. An empty set: nobody knows what these voxels are.
        scales: (slope, offset) per channel: int16 value × slope + offset is what the file says; empty for CT,
            whose voxels are HU.
        original_affine: float64 `[4, 4]` of the file, before reorientation; None for a drawn case.
        original_shape: voxels per axis in the file; None for a drawn case.
    """

    image: npt.NDArray[np.int16]
    label: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | None
    affine: npt.NDArray[np.float64]
    organs: tuple[str, ...]
    overlaps: tuple[tuple[int, ...], ...] = ()
    scales: tuple[tuple[float, float], ...] = ()
    original_affine: npt.NDArray[np.float64] | None = None
    original_shape: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels `(D, H, W)`."""
        d, h, w = self.image.shape[-3:]
        return d, h, w

    def mask(self, organ: str) -> npt.NDArray[np.bool_]:
        """Bool `[D, H, W]`: what was annotated as this organ, overlaps included, organs inside it not."""
        assert self.label is not None
        return np.isin(self.label, local_ids(organ, self.organs, self.overlaps))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm per array axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def local_ids(organ: str, organs: Sequence[str], overlaps: Sequence[Sequence[int]] = ()) -> list[int]:
    """Values of a local label map that are this organ, alone or with others; see `RawCase.label`."""
    i = organs.index(organ)
    return [i + 1, *(len(organs) + k for k, members in enumerate(overlaps, start=1) if i in members)]


def bad_file(path: Path, what: str, code: str, fix: str) -> DataError:
    """The error about a file."""
    return DataError(what, str(path), fix, code)
