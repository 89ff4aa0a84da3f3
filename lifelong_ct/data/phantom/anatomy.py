"""A patient's abdomen as shapes in mm.

World axes are RAS+: x to the patient's right is positive as in NIfTI's world after canonical reorientation of
an RAS image, y to the front, z to the head; the origin is the middle of the body. Sizes are of adults: liver
about 1.5 L, spleen 0.2 L, kidney 0.15 L, pancreas 0.08 L, aorta 20-24 mm wide (usual ranges of anatomy
textbooks, towards their upper end for the small organs, so that they are some voxels wide).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]

ORGANS = (
    "aorta",
    "gall_bladder",
    "kidney_left",
    "kidney_right",
    "liver",
    "pancreas",
    "postcava",
    "spleen",
    "stomach",
)
"""AbdomenAtlas 1.0 (arXiv 2310.16754)."""
TISSUES = ("air", "fat", "muscle", "bowel", "bone", "marrow", *ORGANS)
"""Index in this tuple is the tissue's id; later ones are drawn over earlier ones."""

BODY = (147.0, 94.0)
"""Half width and half depth of the trunk in mm, without the fat under the skin."""
WALL = 13.0
"""Thickness of the muscles around the cavity in mm."""


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and half axes in mm, turned by `turn` degrees about the z axis."""

    tissue: str
    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    turn: float = 0.0


@dataclass(frozen=True)
class Tube:
    """A rod between two points, `radius` mm; ends rounded."""

    tissue: str
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float


Shape = Ellipsoid | Tube

SHAPES: tuple[Shape, ...] = (
    Ellipsoid("bowel", (35.0, 45.0, -75.0), (38.0, 30.0, 28.0)),
    Ellipsoid("bowel", (-45.0, 40.0, -80.0), (42.0, 32.0, 30.0)),
    Ellipsoid("bowel", (-5.0, 60.0, -45.0), (75.0, 16.0, 16.0)),
    Ellipsoid("bowel", (88.0, -5.0, -88.0), (24.0, 28.0, 34.0)),
    Ellipsoid("bowel", (-98.0, 5.0, -60.0), (18.0, 24.0, 60.0)),
    Ellipsoid("bowel", (0.0, 12.0, -92.0), (34.0, 24.0, 26.0)),
    Tube("bone", (0.0, -72.0, -150.0), (0.0, -72.0, 150.0), 21.0),
    Tube("marrow", (0.0, -72.0, -150.0), (0.0, -72.0, 150.0), 17.0),
    Tube("muscle", (38.0, -66.0, -150.0), (30.0, -66.0, 20.0), 17.0),
    Tube("muscle", (-38.0, -66.0, -150.0), (-30.0, -66.0, 20.0), 17.0),
    Ellipsoid("liver", (80.0, 12.0, 42.0), (62.0, 72.0, 66.0), 12.0),
    Ellipsoid("liver", (12.0, 48.0, 55.0), (58.0, 30.0, 34.0), -10.0),
    Ellipsoid("stomach", (-62.0, 38.0, 40.0), (38.0, 36.0, 50.0), 20.0),
    Ellipsoid("spleen", (-112.0, -28.0, 45.0), (25.0, 42.0, 46.0), -15.0),
    Ellipsoid("kidney_right", (70.0, -48.0, -28.0), (28.0, 26.0, 50.0), -20.0),
    Ellipsoid("kidney_left", (-70.0, -48.0, -16.0), (28.0, 26.0, 50.0), 20.0),
    Ellipsoid("gall_bladder", (72.0, 62.0, -22.0), (18.0, 18.0, 28.0), 25.0),
    Tube("pancreas", (32.0, 4.0, -18.0), (-10.0, 14.0, -2.0), 16.0),
    Tube("pancreas", (-10.0, 14.0, -2.0), (-72.0, -12.0, 14.0), 13.0),
    Tube("postcava", (22.0, -38.0, -150.0), (26.0, -30.0, 150.0), 13.0),
    Tube("aorta", (-10.0, -40.0, -150.0), (-8.0, -40.0, 150.0), 12.5),
)


@dataclass(frozen=True)
class Population:
    """Who comes to a hospital.

    Attributes:
        size: mean scale of the trunk and everything in it.
        fat: mean thickness of the subcutaneous fat in mm.
        organ_scale: mean scale of the organs alone.
        variation: standard deviation of shift (×10 mm), relative size and turn (×60°) between patients.
    """

    size: float = 1.0
    fat: float = 18.0
    organ_scale: float = 1.0
    variation: float = 0.08


def draw_tissues(points: Points, who: Population, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Tissue ids of one patient.

    Args:
        points: world coordinates in mm, each `[D, H, W]`.
        who: the population.
        rng: chooses the patient.

    Returns:
        uint8 `[D, H, W]`, index into `TISSUES`.
    """
    scale = who.size * (1 + who.variation / 2 * rng.standard_normal())
    fat = max(5.0, who.fat * (1 + 0.3 * rng.standard_normal()))
    x, y, z = (p / scale for p in _bent(points, rng))
    tissues = np.zeros(x.shape, np.uint8)
    for tissue, outwards in (("fat", fat), ("muscle", 0.0), ("fat", -WALL)):
        tissues[_trunk(x, y, outwards)] = TISSUES.index(tissue)
    wall, cavity = _trunk(x, y, 0.0), _trunk(x, y, -WALL)
    for shape in SHAPES:
        organ = shape.tissue in ORGANS
        varied = _varied(shape, who.organ_scale if organ else 1.0, who.variation if organ else 0.02, rng)
        inside = _inside(varied, x, y, z)
        room = cavity if organ or shape.tissue == "bowel" else wall
        tissues[inside & room] = TISSUES.index(shape.tissue)
    return tissues


def _trunk(x: np.ndarray, y: np.ndarray, outwards: float) -> npt.NDArray[np.bool_]:
    """The ellipse of the trunk, grown by so many mm."""
    return np.asarray(np.hypot(x / (BODY[0] + outwards), y / (BODY[1] + outwards)) < 1)


def _bent(points: Points, rng: np.random.Generator) -> Points:
    """A smooth displacement of a few mm: three waves of 120 to 250 mm per axis."""
    moved = []
    for axis in range(3):
        shift = np.zeros_like(points[0])
        for _ in range(3):
            direction = rng.standard_normal(3)
            direction /= np.sqrt((direction**2).sum())
            length, phase = rng.uniform(120.0, 250.0), rng.uniform(0.0, 2 * np.pi)
            along = sum(d * p for d, p in zip(direction, points, strict=True))
            shift += 3.0 * np.sin(2 * np.pi * along / length + phase)
        moved.append(points[axis] + shift)
    return moved[0], moved[1], moved[2]


def _varied(shape: Shape, scale: float, variation: float, rng: np.random.Generator) -> Shape:
    shift = 100 * variation * rng.standard_normal(3) / 1.2
    sizes = scale * np.exp(variation * rng.standard_normal(3))
    turn = 60 * variation * rng.standard_normal()
    if isinstance(shape, Tube):
        shift[2] = 0.0
        moved = [tuple(float(v) for v in np.add(p, shift / 3)) for p in (shape.start, shape.end)]
        return Tube(shape.tissue, moved[0], moved[1], shape.radius * float(sizes[0]))  # type: ignore[arg-type]
    centre = tuple(float(v) for v in np.add(shape.centre, shift))
    axes = tuple(float(v) for v in np.multiply(shape.axes, sizes))
    return Ellipsoid(shape.tissue, centre, axes, shape.turn + float(turn))  # type: ignore[arg-type]


def _inside(shape: Shape, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> npt.NDArray[np.bool_]:
    if isinstance(shape, Tube):
        start = np.array(shape.start)
        axis = np.array(shape.end) - start
        length = float((axis**2).sum())
        t = ((x - start[0]) * axis[0] + (y - start[1]) * axis[1] + (z - start[2]) * axis[2]) / length
        t = np.clip(t, 0.0, 1.0)
        apart = sum((p - s - t * a) ** 2 for p, s, a in zip((x, y, z), start, axis, strict=True))
        return np.asarray(apart < shape.radius**2)
    cos, sin = np.cos(np.radians(shape.turn)), np.sin(np.radians(shape.turn))
    dx, dy, dz = x - shape.centre[0], y - shape.centre[1], z - shape.centre[2]
    u, v = cos * dx + sin * dy, -sin * dx + cos * dy
    a, b, c = shape.axes
    return np.asarray((u / a) ** 2 + (v / b) ** 2 + (dz / c) ** 2 < 1)
