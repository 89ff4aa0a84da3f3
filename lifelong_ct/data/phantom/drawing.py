"""One case, drawn from a recipe: a pure function of seed, hospital, split and number."""

from __future__ import annotations

import numpy as np

from lifelong_ct.core.seeding import generator
from lifelong_ct.data.phantom import magnetic
from lifelong_ct.data.phantom.canvas import Canvas, smooth
from lifelong_ct.data.phantom.patient import paint_drawn, paint_real
from lifelong_ct.data.phantom.population import ORGANS
from lifelong_ct.data.phantom.recipe import Recipe
from lifelong_ct.data.phantom.shapes import Array
from lifelong_ct.data.phantom.tissue import patient_attenuation
from lifelong_ct.data.types import RawCase


def draw(recipe: Recipe, split: str, index: int, organs: tuple[str, ...]) -> RawCase:
    """Draws one case.

    Args:
        recipe: the hospital.
        split, index: which of its patients.
        organs: the annotated organs; others are drawn and not labelled.

    Returns:
        int16 HU (of MR: its scale, see `data.scales`) and uint8 labels on the scanner's grid, canonical RAS+.
    """

    def rng(topic: str) -> np.random.Generator:
        return generator("phantom", recipe.seed, recipe.hospital, split, index, topic)

    affine = _affine(recipe, rng("position"))
    canvas = Canvas(recipe.shape, affine, rng("deformation"), recipe.population.variation)
    paint = paint_drawn if recipe.anatomy is None else paint_real
    scales: tuple[tuple[float, float], ...] = ()
    if recipe.sequence is None:
        paint(canvas, recipe, rng("anatomy"), _attenuation(recipe, rng("attenuation")))
        ideal = canvas.hu if recipe.invert is None else 2.0 * recipe.invert - canvas.hu
        image = recipe.scanner.scan(ideal, rng("noise"))
    else:
        canvas.hu.fill(0.0)  # air is silent
        paint(canvas, recipe, rng("anatomy"), magnetic.patient_signals(recipe.sequence, rng("relaxation")))
        shading = smooth(canvas.axes, rng("shading"))
        image, scale = magnetic.scan(recipe.scanner, canvas.hu, shading, rng("noise"))
        scales = (scale,)
    local = np.zeros(1 + len(ORGANS), np.uint8)
    for i, organ in enumerate(organs, start=1):
        local[1 + ORGANS.index(organ)] = i
    return RawCase(image, local[canvas.label], affine, organs, scales=scales)


def _affine(recipe: Recipe, rng: np.random.Generator) -> Array:
    """The grid around the patient, who lies up to 10 mm off; eighths of a mm are exact in a NIfTI header."""
    spacing, shape = np.asarray(recipe.scanner.spacing), np.asarray(recipe.shape)
    off = rng.uniform((-8, -8, -10), (8, 8, 10)) * recipe.population.variation
    middle = np.array([0.0, 0.0, recipe.scanner.centre]) + off
    affine = np.diag([*spacing.tolist(), 1.0])
    affine[:3, 3] = np.round((middle - spacing * (shape - 1) / 2) * 8) / 8
    return affine


def _attenuation(recipe: Recipe, rng: np.random.Generator) -> dict[str, float]:
    """The patient's tissues, and what is in stomach and bowel today."""
    hu = patient_attenuation(recipe.phase, recipe.enhancement, rng)
    oral = recipe.oral_contrast
    drank, food, strength = rng.uniform(0.0, 1.0), rng.uniform(0.0, 45.0), rng.uniform(0.7, 1.2)
    if "stomach" in recipe.enhancement:
        hu["stomach_content"] = hu["stomach_wall"]
    else:
        hu["stomach_content"] = float(oral * strength if oral and drank < 0.75 else food)
    for i in range(8):
        chance, offset, strength = rng.uniform(0.0, 1.0), rng.uniform(-25.0, 25.0), rng.uniform(0.4, 1.2)
        content = hu["bowel"] + offset
        if oral and chance < 0.6:
            content = oral * strength
        elif i < 3 and chance < 0.4:
            content = -700.0  # gas in the colon
        hu[f"content_{i}"] = float(content)
    return hu
