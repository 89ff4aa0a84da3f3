"""Attenuation of tissues in HU: without contrast, and in three phases after its injection.

Sources of the means:

- Liver without contrast 58 ± 9 HU: 64 livers without pathology, Int J Legal Med 2019;133:1861,
  doi 10.1007/s00414-019-02016-1. Liver minus spleen without contrast 1 to 18 HU: 96 healthy donors,
  Park et al., "Biopsy-proven nonsteatotic liver in adults", Radiology.
- Late arterial phase: aorta 290-360 HU, liver 20-30 HU above its unenhanced value (Radiopaedia, "Late
  arterial phase"). Renal cortex 195-217 HU above its unenhanced value, cortex minus medulla 110-140 HU;
  in the nephrographic phase their difference is below 30 HU and the medulla 145 HU above its unenhanced
  value (128 patients, PubMed 17367973).
- Portal venous phase: the medians of the public scans CRLM-CT-1004 and -1006 (TCIA Colorectal-Liver-
  Metastases): liver 116-118, spleen 104-109, kidney 173-201, aorta 136-139 HU.
- Bile 1-20 HU, and whatever is not named here: typical textbook range.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lifelong_ct.core.errors import LifelongCTError

_FIXED = {"air": -1000.0, "lung": -830.0, "fat": -100.0, "bone": 280.0, "marrow": 170.0, "table": 60.0}
PHASES: dict[str, dict[str, float]] = {
    "unenhanced": {
        "aorta": 42, "postcava": 40, "heart": 42, "liver": 58, "spleen": 48, "cortex": 34, "medulla": 32,
        "pancreas": 42, "gall_bladder": 10, "muscle": 54, "stomach_wall": 40, "bowel": 32, "disc": 80,
    },
    "arterial": {
        "aorta": 320, "postcava": 85, "heart": 270, "liver": 82, "spleen": 150, "cortex": 230, "medulla": 110,
        "pancreas": 108, "gall_bladder": 10, "muscle": 60, "stomach_wall": 85, "bowel": 60, "disc": 82,
    },
    "portal_venous": {
        "aorta": 140, "postcava": 128, "heart": 145, "liver": 116, "spleen": 110, "cortex": 195, "medulla": 175,
        "pancreas": 92, "gall_bladder": 12, "muscle": 64, "stomach_wall": 90, "bowel": 70, "disc": 84,
    },
    "delayed": {
        "aorta": 105, "postcava": 105, "heart": 105, "liver": 88, "spleen": 86, "cortex": 150, "medulla": 165,
        "pancreas": 76, "gall_bladder": 14, "muscle": 66, "stomach_wall": 78, "bowel": 60, "disc": 84,
    },
}  # fmt: skip
"""Mean HU per contrast phase: none, late arterial (35 s), portal venous (70 s), delayed (3-5 min)."""

SPREAD = {"liver": 7.0, "gall_bladder": 5.0, "fat": 5.0, "bone": 40.0, "marrow": 30.0, "lung": 30.0}
"""Standard deviation between patients in HU, on top of the uptake; 5 where not listed."""
UPTAKE = 0.12
"""Relative standard deviation between patients of the whole enhancement: dose per body weight, timing."""


def mean_attenuation(phase: str, replaced: Mapping[str, float] | None = None) -> dict[str, float]:
    """Mean HU of every tissue in a phase; `replaced` overrides single tissues (`kidney` both layers).

    Raises:
        LifelongCTError: an unknown phase or tissue.
    """
    if phase not in PHASES:
        raise LifelongCTError(f"no contrast phase {phase!r}", "phantom phase", f"use one of {_names(PHASES)}")
    means = {**_FIXED, **PHASES[phase]}
    for tissue, hu in (replaced or {}).items():
        layers = {"kidney": ("cortex", "medulla"), "stomach": ("stomach_wall", "stomach_content")}
        for name in layers.get(tissue, (tissue,)):
            if name not in means and name != "stomach_content":
                raise LifelongCTError(
                    f"no tissue {tissue!r}", "phantom enhancement", f"use kidney, stomach, {_names(means)}"
                )
            means[name] = float(hu)
    return means


def patient_attenuation(
    phase: str, replaced: Mapping[str, float] | None, rng: np.random.Generator
) -> dict[str, float]:
    """HU of one patient's tissues: (unenhanced + uptake × enhancement) + the tissue's own deviation."""
    plain, means = PHASES["unenhanced"], mean_attenuation(phase, replaced)
    uptake = float(np.clip(1.0 + UPTAKE * rng.standard_normal(), 0.7, 1.3))
    values: dict[str, float] = {}
    for tissue in sorted(means):
        mean = means[tissue]
        if tissue in plain and tissue not in _layers_of(replaced):
            mean = plain[tissue] + uptake * (mean - plain[tissue])
        values[tissue] = mean + SPREAD.get(tissue, 5.0) * float(np.clip(rng.standard_normal(), -2, 2))
    return values


def _layers_of(replaced: Mapping[str, float] | None) -> set[str]:
    names = set(replaced or ())
    return names | ({"cortex", "medulla"} if "kidney" in names else set())


def _names(values: Mapping[str, object]) -> str:
    return ", ".join(sorted(values))
