"""The nine organs and what surrounds them, in mm, for one patient.

Patient coordinates: x right, y anterior, z superior; the origin lies in front of the first lumbar vertebra,
in the middle of the abdominal wall's ellipse. Reference sizes follow Geraghty et al. (Abdom Imaging
2004;29:482) for liver, spleen, kidneys and pancreas; vessels stand at the large end of what was measured
(suprarenal aorta 19.0 ± 2.3 mm in men, J Postgrad Med 2014;60:57; vena cava 16 × 26 mm, Cureus 2022;
14:e31845), so that they are four voxels wide on a coarse grid; fasting gall bladder 30-50 mL and moderately
filled stomach: typical textbook range. Positions are textbook anatomy, to the eye.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lifelong_ct.data.phantom.population import Build
from lifelong_ct.data.phantom.shapes import Ellipsoid, Point, Solid, Tube, Union, rotation


@dataclass(frozen=True)
class Part:
    """A solid with what fills it.

    Attributes:
        tissue: name in the patient's attenuation table; `core` fills it deeper than `shell` mm.
        solid: where it is.
        organ: canonical organ, or None.
        core, shell: inner tissue and thickness of the outer one; None without layers.
    """

    tissue: str
    solid: Solid
    organ: str | None = None
    core: str | None = None
    shell: float = 0.0


class Sculptor:
    """Places solids of one patient: reference position × body scale + a random shift.

    Args:
        build: the patient's sizes.
        variation: factor on random shifts, turns and bumps.
        rng: consumed in a fixed order.
    """

    def __init__(self, build: Build, variation: float, rng: np.random.Generator) -> None:
        self.build, self.variation, self.rng = build, variation, rng

    def shift(self, mm: float) -> Point:
        """A random displacement of standard deviation `mm` per axis, at most twice that."""
        dx, dy, dz = (self.variation * mm * np.clip(self.rng.standard_normal(3), -2, 2)).tolist()
        return dx, dy, dz

    def place(self, point: Point, by: Point = (0.0, 0.0, 0.0)) -> Point:
        """A reference point in this patient."""
        x, y, z = (p * s + d for p, s, d in zip(point, self.build.scale, by))
        return x, y, z

    def ellipsoid(
        self, centre: Point, half: Point, turn: Point = (0, 0, 0), growth: float = 1.0, by: Point = (0, 0, 0)
    ) -> Ellipsoid:
        """A turned, bumpy ellipsoid; `turn` in degrees, with a deviation of 6°."""
        angles = np.asarray(turn) + np.asarray(self.shift(6.0))
        bumps = (0.05 * self.variation * np.clip(self.rng.standard_normal(6), -2, 2)).tolist()
        a, b, c = (h * growth for h in half)
        return Ellipsoid(self.place(centre, by), (a, b, c), rotation(*angles.tolist()), bumps)

    def tube(self, points: list[Point], radii: list[float], growth: float = 1.0, wobble: float = 3.0) -> Tube:
        """A tube whose points move by `wobble` mm each."""
        return Tube([self.place(p, self.shift(wobble)) for p in points], [r * growth for r in radii])


def surroundings(sculptor: Sculptor) -> list[Part]:
    """Muscles, bones and bowel, in painting order."""
    parts = [
        Part("muscle", sculptor.tube([(s * 32, -36, 15), (s * 46, -24, -170)], [12, 23])) for s in (1, -1)
    ]
    parts += [
        Part("muscle", sculptor.tube([(s * 32, -72, -200), (s * 32, -72, 200)], [20, 18])) for s in (1, -1)
    ]
    parts.append(
        Part(
            "bone",
            Tube([sculptor.place((0, -42, -220)), sculptor.place((0, -42, 220))], [20, 17]),
            core="marrow",
            shell=4,
        )
    )
    parts.append(Part("bone", Tube([sculptor.place((0, -76, -220)), sculptor.place((0, -76, 220))], [7, 7])))
    parts += [
        Part(
            "bone",
            sculptor.tube([(s * 96, -20, -112), (s * 60, -55, -170)], [10, 16]),
            core="marrow",
            shell=4,
        )
        for s in (1, -1)
    ]
    return parts


def bowel(sculptor: Sculptor) -> list[Part]:
    """Colon and small bowel: unlabelled, with contents that overlap the organs' HU."""
    colon: list[list[Point]] = [
        [(98, -8, -135), (102, -5, -60), (96, 5, -12)],
        [(96, 8, -12), (60, 48, -22), (0, 60, -32), (-60, 48, -14), (-98, 10, 12)],
        [(-100, 5, 12), (-104, -12, -60), (-95, -5, -135)],
    ]
    parts = [
        Part(f"content_{i}", sculptor.tube(points, [17.0] * len(points), wobble=6))
        for i, points in enumerate(colon)
    ]
    for i in range(14):
        x, y, z = sculptor.rng.uniform((-72, -8, -150), (72, 58, -42)).tolist()
        radius = float(sculptor.rng.uniform(13, 21))
        parts.append(
            Part(
                f"content_{3 + i % 5}",
                sculptor.ellipsoid((x, y, z), (radius * 1.5, radius, radius), (0, 0, 40.0 * (i % 5))),
            )
        )
    return parts


def organs(sculptor: Sculptor) -> list[Part]:
    """The nine organs, in painting order: later ones press into earlier ones."""
    shapes: dict[str, Callable[[Sculptor, float], list[Part]]] = {
        "stomach": _stomach,
        "liver": _liver,
        "kidney_right": lambda s, g: _kidney(s, g, 1),
        "kidney_left": lambda s, g: _kidney(s, g, -1),
        "spleen": _spleen,
        "pancreas": _pancreas,
        "gall_bladder": _gall_bladder,
        "postcava": _postcava,
        "aorta": _aorta,
    }
    return [part for organ, make in shapes.items() for part in make(sculptor, sculptor.build.growth[organ])]


def _stomach(s: Sculptor, g: float) -> list[Part]:
    by = s.shift(6.0)
    solid = Union(
        [
            s.ellipsoid((-54, 2, 84), (33, 35, 33), growth=g, by=by),
            s.ellipsoid((-46, 40, 46), (28, 25, 44), (-12, 0, 0), g, by),
            s.ellipsoid((-6, 54, 14), (38, 17, 17), (0, -14, 0), g, by),
        ]
    )
    return [Part("stomach_wall", solid, "stomach", core="stomach_content", shell=5.0)]


def _liver(s: Sculptor, g: float) -> list[Part]:
    by = s.shift(6.0)
    solid = Union(
        [
            s.ellipsoid((66, 4, 46), (64, 74, 84), growth=g, by=by),
            s.ellipsoid((14, 40, 78), (56, 34, 34), (0, 12, 0), g, by),
        ]
    )
    return [Part("liver", solid, "liver")]


def _kidney(s: Sculptor, g: float, side: int) -> list[Part]:
    by, z = s.shift(7.0), -4.0 if side > 0 else 6.0
    body = s.ellipsoid((side * 57, -38, z), (30, 27, 58), (-10, side * 10, side * 15), g, by)
    sinus = s.ellipsoid((side * 40, -33, z), (9, 9, 18), growth=g, by=by)
    name = "kidney_right" if side > 0 else "kidney_left"
    return [Part("cortex", body, name, core="medulla", shell=9.0), Part("fat", sinus)]


def _spleen(s: Sculptor, g: float) -> list[Part]:
    return [
        Part("spleen", s.ellipsoid((-90, -32, 72), (28, 43, 55), (-20, 12, 20), g, s.shift(6.0)), "spleen")
    ]


def _pancreas(s: Sculptor, g: float) -> list[Part]:
    points: list[Point] = [
        (38, -2, -14),
        (36, 2, 2),
        (12, 15, 8),
        (-16, 12, 16),
        (-40, -2, 24),
        (-64, -20, 34),
    ]
    return [Part("pancreas", s.tube(points, [14, 14, 11, 12.5, 12.5, 11.5], g, wobble=4.0), "pancreas")]


def _gall_bladder(s: Sculptor, g: float) -> list[Part]:
    return [
        Part(
            "gall_bladder",
            s.ellipsoid((44, 44, 8), (16, 17, 31), (25, 0, 15), g, s.shift(6.0)),
            "gall_bladder",
        )
    ]


def _postcava(s: Sculptor, g: float) -> list[Part]:
    points: list[Point] = [(19, -13, -85), (21, -13, -20), (22, -12, 40), (24, -4, 80), (22, 6, 112)]
    return [Part("postcava", s.tube(points, [11, 11.5, 12, 12.5, 13], g, wobble=2.5), "postcava")]


def _aorta(s: Sculptor, g: float) -> list[Part]:
    points: list[Point] = [(-4, -11, -80), (-7, -10, -20), (-9, -11, 40), (-12, -18, 100), (-18, -26, 200)]
    return [Part("aorta", s.tube(points, [9.5, 10.5, 11.5, 12.5, 13], g, wobble=2.5), "aorta")]
