"""Magnetic resonance of the same patients: signals of a spin echo, coil shading, Rician noise.

A tissue of relaxation times T1 and T2 and proton density PD gives, in a spin-echo sequence of repetition time TR and
echo time TE, the signal PD (1 - exp(-TR/T1)) exp(-TE/T2) (Bernstein, King & Zhou, "Handbook of MRI Pulse Sequences",
2004, ch. 14.3, for TE << TR).

Sources of the times, at 3 T:

- Liver, spleen, kidney, pancreas, muscle, marrow and subcutaneous fat: de Bazelaire et al., Radiology 2004;230:652,
  doi 10.1148/radiol.2303021331. Its standard deviations, about 8 % (T1) and 11 % (T2), are those between patients.
- Blood: Stanisz et al., MRM 2005;54:507, doi 10.1002/mrm.20605; at rest, flow is not drawn.
- Bile and other fluids, wall of the bowel, discs and all proton densities: typical textbook range. Air, cortical bone
  and the table give next to nothing.

Noise of a magnitude image is Rician (Gudbjartsson & Patz, MRM 1995;34:910).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.phantom.scanner import Scanner
from lifelong_ct.data.phantom.shapes import Array
from lifelong_ct.data.scales import Scale, to_int16

SEQUENCES: dict[str, tuple[float, float]] = {"t1": (500.0, 10.0), "t2": (4000.0, 90.0)}
"""Name → TR and TE in ms of a typical T1- and T2-weighted spin echo."""
FULL = 1000.0
"""Signal of PD 1 without any relaxation; noise is in the same unit."""
SHADING = 0.2
"""Largest relative change of the signal by the coils; 10-40 % over a field of view is a typical textbook range."""
SPREAD_T1, SPREAD_T2 = 0.08, 0.11

_BLOOD, _FLUID = (1932.0, 275.0, 1.0), (2800.0, 400.0, 1.0)
_WALL = (900.0, 45.0, 0.9)
TISSUES: dict[str, tuple[float, float, float]] = {
    "air": (1000.0, 50.0, 0.0),
    "lung": (1200.0, 40.0, 0.15),
    "fat": (382.0, 68.0, 0.9),
    "bone": (500.0, 1.0, 0.1),
    "marrow": (586.0, 49.0, 0.8),
    "table": (1000.0, 50.0, 0.0),
    "aorta": _BLOOD,
    "postcava": _BLOOD,
    "heart": _BLOOD,
    "liver": (809.0, 34.0, 0.9),
    "spleen": (1328.0, 61.0, 0.9),
    "cortex": (1142.0, 76.0, 0.9),
    "medulla": (1545.0, 81.0, 0.9),
    "pancreas": (725.0, 43.0, 0.9),
    "gall_bladder": _FLUID,
    "muscle": (898.0, 29.0, 0.9),
    "stomach_wall": _WALL,
    "bowel": _WALL,
    "disc": (1200.0, 70.0, 0.8),
    "fluid": _FLUID,
}
"""T1 and T2 in ms, and PD relative to water."""


def spin_echo(sequence: str, t1: float, t2: float, density: float) -> float:
    """Signal of a tissue; `FULL` is that of water without relaxation.

    Raises:
        LifelongCTError: an unknown sequence.
    """
    if sequence not in SEQUENCES:
        raise LifelongCTError(
            f"no sequence {sequence!r}",
            "phantom sequence",
            f"use one of {', '.join(SEQUENCES)}, or null for CT",
        )
    tr, te = SEQUENCES[sequence]
    return float(FULL * density * (1.0 - np.exp(-tr / t1)) * np.exp(-te / t2))


def patient_signals(sequence: str, rng: np.random.Generator) -> dict[str, float]:
    """Signals of one patient's tissues, and of what is in stomach and bowel today: a mixture of fluid and food, and
    gas in the colon."""
    signals: dict[str, float] = {}
    for tissue in sorted(TISSUES):
        t1, t2, density = TISSUES[tissue]
        one, two = np.clip(rng.standard_normal(2), -2, 2).tolist()
        signals[tissue] = spin_echo(sequence, t1 * (1 + SPREAD_T1 * one), t2 * (1 + SPREAD_T2 * two), density)
    wet = rng.uniform(0.0, 1.0, 9).tolist()
    signals["stomach_content"] = _mixed(signals, wet[8])
    for i, gas in enumerate(rng.uniform(0.0, 1.0, 8).tolist()):
        signals[f"content_{i}"] = 0.0 if i < 3 and gas < 0.4 else _mixed(signals, wet[i])
    return signals


def scan(
    scanner: Scanner, ideal: Array, shading: Array, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int16], Scale]:
    """Ideal signals `[D, H, W]` → int16 on the scale of MR scans (`data.scales`), and what brings it back.

    Args:
        scanner: its blur and noise, the standard deviation of
            each of the two channels in thousandths of `FULL`.
        ideal: signals.
        shading: `[D, H, W]` in [-1, 1], smooth; the coils see exp(`SHADING` × this) of the signal.
        rng: of the noise.
    """
    image = gaussian_filter(ideal, scanner.blur, mode="nearest", truncate=3.0) * np.exp(SHADING * shading)
    real, imaginary = scanner.noise * rng.standard_normal((2, *image.shape))
    return to_int16(Path("phantom"), np.hypot(image + real, imaginary), "MR")


def _mixed(signals: Mapping[str, float], wet: float) -> float:
    return wet * signals["fluid"] + (1.0 - wet) * signals["bowel"]
