"""Abdominal CT drawn from a seed: synthetic, free of patients, the same bytes on every machine.

`draw` makes one case from a `Recipe`; `writing.write_hospital` makes NIfTI files of a whole hospital. What may be
chosen: `Scanner`, `Population`, and the contrast phases of `tissue.PHASES`.
"""

from lifelong_ct.data.phantom.drawing import draw
from lifelong_ct.data.phantom.population import ORGANS, Population
from lifelong_ct.data.phantom.recipe import Recipe
from lifelong_ct.data.phantom.scanner import Scanner

__all__ = ["ORGANS", "Population", "Recipe", "Scanner", "draw"]
