"""What a mesh, points or a field do not say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import LifelongCTError

SPACES = {"RAS": (1.0, 1.0, 1.0), "LPS": (-1.0, -1.0, 1.0)}
UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0}


@dataclass(frozen=True)
class Shapes:
    """How shapes lie in space; an option of a hospital.

    Attributes:
        space: RAS (x to the patient's right, as in NIfTI) or LPS (as in DICOM, ITK and 3D Slicer's meshes).
        unit: mm, cm or m, of coordinates, affines and distances.
        voxel: mm, of the grid that an image made of a mesh or of points gets; a label has the grid of its image.
        margin: mm around such an image.

    Raises:
        LifelongCTError: a value that is none.
    """

    space: str = "RAS"
    unit: str = "mm"
    voxel: float | None = None
    margin: float = 10.0

    def __post_init__(self) -> None:
        for key, value, choices in (("space", self.space, SPACES), ("unit", self.unit, UNITS)):
            if value not in choices:
                raise LifelongCTError(f"{key}={value!r}", f"shapes.{key}", f"use {' or '.join(choices)}")
        for key, number, least in (("voxel", self.voxel, 1e-3), ("margin", self.margin, 0)):
            if number is not None and (not isinstance(number, int | float) or not least <= number < np.inf):
                raise LifelongCTError(f"{key}={number!r}", f"shapes.{key}", "write a number of mm")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None, where: str = "shapes") -> Shapes:
        """From a configuration.

        Raises:
            LifelongCTError: an unknown key or a wrong value.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(given or {}) - set(known))
        if unknown:
            raise LifelongCTError(f"unknown key {unknown[0]!r}", where, f"there are {', '.join(known)}")
        return cls(**(given or {}))

    @property
    def scale(self) -> float:
        """mm per unit."""
        return UNITS[self.unit]

    @property
    def to_mm(self) -> npt.NDArray[np.float64]:
        """float64 `[4, 4]`: a point of the file → mm, RAS+."""
        return np.diag([*(self.scale * sign for sign in SPACES[self.space]), 1.0])
