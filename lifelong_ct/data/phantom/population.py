"""Who is scanned: body size, fat, organ volumes, and how much patients differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lifelong_ct.core.errors import LifelongCTError

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
"""The nine organs of AbdomenAtlas 1.0 (arXiv 2305.09666), in its order."""


@dataclass(frozen=True)
class Population:
    """The patients of a hospital.

    Attributes:
        body: mean body size relative to the reference adult (abdominal wall 280 × 190 mm without skin fat).
        body_spread: relative standard deviation of the body size.
        fat: mean thickness of the subcutaneous fat in mm; 10-30 mm is a typical textbook range.
        volumes: mean organ volume relative to the reference, per organ.
        variation: factor on every other difference between patients; 1 is the default anatomy.
    """

    body: float = 1.0
    body_spread: float = 0.05
    fat: float = 14.0
    volumes: Mapping[str, float] = field(default_factory=dict)
    variation: float = 1.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.volumes) - set(ORGANS))
        if unknown:
            raise LifelongCTError(
                f"no organ {', '.join(unknown)} in the phantom",
                "phantom population.volumes",
                f"use {', '.join(ORGANS)}",
            )
        if not 0.6 <= self.body <= 1.5 or not 0 <= self.fat <= 60:
            raise LifelongCTError(
                f"body {self.body}, fat {self.fat} mm",
                "phantom population",
                "body 0.6 to 1.5 of the reference adult, fat 0 to 60 mm",
            )


@dataclass(frozen=True)
class Build:
    """One patient's build, drawn from a population.

    Attributes:
        scale: `[3]`, positions relative to the reference adult along x, y, z.
        fat: subcutaneous fat in mm.
        growth: per organ, the cube root of its volume relative to the reference.
    """

    scale: tuple[float, float, float]
    fat: float
    growth: Mapping[str, float]


def draw_build(population: Population, rng: np.random.Generator) -> Build:
    """Draws the build of a patient; organ volumes are log-normal with a coefficient of variation of 18 %.

    Geraghty et al., "Normal organ volume assessment from abdominal CT", Abdom Imaging 2004;29:482, found
    means of 1710 / 1411 mL (liver, men / women), 238 / 180 (spleen), 193 / 157 (kidney), 87 / 64 (pancreas).
    """
    size = population.body * (1.0 + population.body_spread * _clipped(rng))
    scale = tuple(size * (1.0 + 0.03 * population.variation * _clipped(rng)) for _ in range(3))
    fat = population.fat * (1.0 + 0.3 * _clipped(rng))
    growth = {}
    for organ in ORGANS:
        relative = population.volumes.get(organ, 1.0) * np.exp(0.18 * population.variation * _clipped(rng))
        growth[organ] = float(size * relative ** (1.0 / 3.0))
    return Build((float(scale[0]), float(scale[1]), float(scale[2])), float(fat), growth)


def _clipped(rng: np.random.Generator) -> float:
    return float(np.clip(rng.standard_normal(), -2.0, 2.0))
