"""Paints a whole patient: wall, bones, bowel, organs (drawn or real), chest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lifelong_ct.data.phantom import anatomy, real_anatomy
from lifelong_ct.data.phantom.canvas import EVERYWHERE, Canvas
from lifelong_ct.data.phantom.population import Build, draw_build
from lifelong_ct.data.phantom.recipe import Recipe
from lifelong_ct.data.phantom.shapes import Array

WALL = (140.0, 95.0)
"""Half axes of the abdominal wall of the reference adult (x, y), mm."""
MUSCLE = 13.0
"""Thickness of the abdominal wall, mm."""


def paint_drawn(canvas: Canvas, recipe: Recipe, rng: np.random.Generator, hu: dict[str, float]) -> None:
    """A patient drawn from shapes alone."""
    build = draw_build(recipe.population, rng)
    sculptor = anatomy.Sculptor(build, recipe.population.variation, rng)
    wall = _paint_wall(canvas, recipe, build, hu)
    for part in anatomy.surroundings(sculptor):
        canvas.paint(part, hu, wall)
    cavity, dome = wall - MUSCLE, _below_diaphragm(canvas, build, rng)
    abdomen = np.minimum(cavity, dome)
    for part in (*anatomy.bowel(sculptor), *anatomy.organs(sculptor)):
        canvas.paint(part, hu, wall if part.organ in ("aorta", "postcava") else abdomen)
    _paint_chest(canvas, np.minimum(cavity, -dome), hu)


def paint_real(canvas: Canvas, recipe: Recipe, rng: np.random.Generator, hu: dict[str, float]) -> None:
    """A patient with the organs of a real label map; what the map does not label is drawn around them.

    The map is chosen by chance; its size varies by 5 %, its place by 4 mm, on top of the deformation.
    """
    paths = real_anatomy.label_maps(Path(str(recipe.anatomy)))
    chosen = real_anatomy.read_map(paths[int(rng.integers(len(paths)))])
    size = 1.0 + 0.05 * float(np.clip(rng.standard_normal(), -2, 2))
    off = (4.0 * np.clip(rng.standard_normal(3), -2, 2)).tolist()
    drawn = draw_build(recipe.population, rng)
    boned = chosen.has("bone")
    fit = size * (chosen.fit(WALL) + (0.0 if boned else MUSCLE / WALL[1]))
    build = Build((fit, fit, size), drawn.fat, dict.fromkeys(drawn.growth, size))
    ids = chosen.at(*((c - o) / size for c, o in zip((canvas.x, canvas.y, canvas.z), off)))
    sculptor = anatomy.Sculptor(build, recipe.population.variation, rng)
    wall = _paint_wall(canvas, recipe, build, hu, ribs=not boned)
    if not boned:
        for part in anatomy.surroundings(sculptor):
            canvas.paint(part, hu, wall)
    if not chosen.has("content_0"):
        for part in anatomy.bowel(sculptor):
            canvas.paint(part, hu, wall - MUSCLE)
    for tissue, numbers in real_anatomy.OTHERS.items():
        canvas.fill(_hard(np.isin(ids, numbers)), hu[tissue])
    found = real_anatomy.organ_ids()[ids]
    fillings = {"kidney_left": "cortex", "kidney_right": "cortex", "stomach": "stomach_content"}
    for index, organ in enumerate(build.growth, start=1):
        canvas.fill(_hard(found == index), hu[fillings.get(organ, organ)], EVERYWHERE, index)


def _hard(mask: np.ndarray) -> Array:
    """A depth without partial volume, mm."""
    return np.where(mask, 1e3, -1e3)


def _paint_wall(
    canvas: Canvas, recipe: Recipe, build: Build, hu: dict[str, float], ribs: bool = True
) -> Array:
    """Table, skin fat, abdominal wall and the fat inside it; returns the depth below the wall's surface."""
    outer = (WALL[0] * build.scale[0], WALL[1] * build.scale[1])
    radius = np.sqrt((canvas.x / outer[0]) ** 2 + (canvas.y / outer[1]) ** 2)
    wall: Array = (1.0 - radius) * (outer[0] + outer[1]) / 2
    if recipe.scanner.table:
        _paint_table(canvas, -(outer[1] + build.fat + 8.0), hu["table"])
    canvas.fill(wall + build.fat, hu["fat"])
    canvas.fill(wall, _ribbed(canvas, wall, hu) if ribs else hu["muscle"])
    canvas.fill(wall - MUSCLE, hu["fat"])
    return wall


def _ribbed(canvas: Canvas, wall: Array, hu: dict[str, float]) -> Array:
    """Muscle of the wall, with ribs as slanted rings above the waist."""
    phase = np.cos((canvas.z + 0.6 * canvas.y) * (2 * np.pi / 26.0))
    rib = np.clip(2.0 * phase - 0.6, 0.0, 1.0) * np.clip((canvas.z + 0.3 * canvas.y) / 10.0, 0.0, 1.0)
    rib *= np.clip(1.5 - np.abs(wall - MUSCLE / 2) / 4.0, 0.0, 1.0)
    ribbed: Array = hu["muscle"] + rib * (hu["bone"] - hu["muscle"])
    return ribbed


def _below_diaphragm(canvas: Canvas, build: Build, rng: np.random.Generator) -> Array:
    """Depth below the diaphragm's dome, mm."""
    sx, sy, sz = build.scale
    height = (126.0 + 6.0 * float(np.clip(rng.standard_normal(), -2, 2))) * sz
    bend = (canvas.x / (126 * sx)) ** 2 + (canvas.y / (82 * sy)) ** 2
    depth: Array = height - 42.0 * np.minimum(bend, 1.5) - canvas.z
    return depth


def _paint_chest(canvas: Canvas, above: Array, hu: dict[str, float]) -> None:
    """Lung above the diaphragm, except where spine, aorta and heart are."""
    behind = np.sqrt(canvas.x**2 + (canvas.y + 30) ** 2) - 48.0
    heart = 52.0 - np.sqrt((canvas.x + 22) ** 2 + (canvas.y - 28) ** 2 * 1.4 + (canvas.z - 152) ** 2)
    canvas.fill(np.minimum(above, behind), hu["lung"])
    canvas.fill(np.minimum(above, heart), hu["heart"])


def _paint_table(canvas: Canvas, top: float, hu: float) -> None:
    """A flat table whose upper face is at y = `top` mm; it does not bend with the patient."""
    x, y, z = canvas.room
    canvas.fill(np.minimum(6.0 - np.abs(y - (top - 6.0)), 190.0 - np.abs(x)) + 0.0 * z, hu)
