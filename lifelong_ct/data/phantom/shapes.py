"""Solids that tell how deep a point lies inside them, in mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Point = tuple[float, float, float]


class Solid(Protocol):
    """A shape in patient coordinates (mm; x right, y anterior, z superior)."""

    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest corner, `[3]` each; the shape lies between."""
        ...

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        """About the distance to the surface in mm, positive inside."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with a bumpy surface.

    Attributes:
        centre, half: mm.
        turn: rotation `[3, 3]`, own axes → patient axes.
        bumps: 6 relative amplitudes of the surface's quadratic and cubic harmonics.
    """

    centre: Point
    half: Point
    turn: Array
    bumps: Sequence[float] = (0.0,) * 6

    def bounds(self) -> tuple[Array, Array]:
        reach = max(self.half) * (1.0 + sum(abs(b) for b in self.bumps))
        centre = np.asarray(self.centre)
        return centre - reach, centre + reach

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        dx, dy, dz = x - self.centre[0], y - self.centre[1], z - self.centre[2]
        t = self.turn
        u = (t[0, 0] * dx + t[1, 0] * dy + t[2, 0] * dz) / self.half[0]
        v = (t[0, 1] * dx + t[1, 1] * dy + t[2, 1] * dz) / self.half[1]
        w = (t[0, 2] * dx + t[1, 2] * dy + t[2, 2] * dz) / self.half[2]
        r = np.sqrt(u * u + v * v + w * w)
        n = np.maximum(r, 1e-6)
        a, b, c = u / n, v / n, w / n
        q = self.bumps
        surface = 1.0 + q[0] * a * b * 2 + q[1] * b * c * 2 + q[2] * a * c * 2
        surface += (
            q[3] * a * (a * a - 3 * b * b) + q[4] * b * (b * b - 3 * c * c) + q[5] * c * (c * c - 3 * a * a)
        )
        return (surface - r) * min(self.half)


@dataclass(frozen=True)
class Tube:
    """A tube around a polyline; the radius runs linearly between its points.

    Attributes:
        points: mm.
        radii: mm, one per point.
    """

    points: Sequence[Point]
    radii: Sequence[float]

    def bounds(self) -> tuple[Array, Array]:
        points, reach = np.asarray(self.points), max(self.radii)
        return points.min(0) - reach, points.max(0) + reach

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        deepest = np.full(x.shape, -np.inf)
        ends = zip(self.points[:-1], self.points[1:], self.radii[:-1], self.radii[1:])
        for (ax, ay, az), (bx, by, bz), ra, rb in ends:
            ex, ey, ez = bx - ax, by - ay, bz - az
            px, py, pz = x - ax, y - ay, z - az
            t = np.clip((px * ex + py * ey + pz * ez) / (ex * ex + ey * ey + ez * ez), 0.0, 1.0)
            px, py, pz = px - t * ex, py - t * ey, pz - t * ez
            np.maximum(deepest, ra + t * (rb - ra) - np.sqrt(px * px + py * py + pz * pz), out=deepest)
        return deepest


@dataclass(frozen=True)
class Union:
    """Several solids as one."""

    parts: Sequence[Solid]

    def bounds(self) -> tuple[Array, Array]:
        lows, highs = zip(*(part.bounds() for part in self.parts))
        return np.min(lows, axis=0), np.max(highs, axis=0)

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        deepest = self.parts[0].depth(x, y, z)
        for part in self.parts[1:]:
            np.maximum(deepest, part.depth(x, y, z), out=deepest)
        return deepest


def rotation(about_x: float, about_y: float, about_z: float) -> Array:
    """Rotation matrix `[3, 3]` from three angles in degrees, applied in the order x, y, z."""
    ax, ay, az = np.deg2rad([about_x, about_y, about_z])
    cx, sx, cy, sy, cz, sz = np.cos(ax), np.sin(ax), np.cos(ay), np.sin(ay), np.cos(az), np.sin(az)
    return np.array(
        [
            [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz],
            [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz],
            [-sy, sx * cy, cx * cy],
        ]
    )
