"""Hospitals of files for measurements: scans of a size that counts, and nothing else imported."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from lifelong_ct.data.layouts.manifest import ManifestLayout

SHAPE = (192, 192, 96)


def write_hospital(root: Path, count: int) -> ManifestLayout:
    """Scans with a smooth body, noise and two organs, 1 × 1 × 2 mm; those that are there stay."""
    root.mkdir(parents=True, exist_ok=True)
    label = np.zeros(SHAPE, np.uint8)
    label[110:160, 60:120, 20:70], label[30:60, 60:120, 20:70] = 1, 2
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    rows = []
    for i in range(count):
        names = f"{i}_ct.nii.gz", f"{i}_seg.nii.gz"
        rows.append(
            {
                "id": f"case-{i}",
                "patient": f"p-{i}",
                "split": "train",
                "organs": ["liver", "spleen"],
                "image": names[0],
                "label": names[1],
            }
        )
        if not (root / names[1]).exists():
            rng = np.random.default_rng(i)
            image = (rng.integers(-40, 40, SHAPE) + 100 * label.astype(np.int16)).astype(np.int16)
            image[:10] = -1000
            image[-2:] = 900
            nib.save(nib.Nifti1Image(image, affine), root / names[0])
            nib.save(nib.Nifti1Image(label, affine), root / names[1])
    return ManifestLayout(
        "noise", manifest={"labels": {"liver": 1, "spleen": 2}, "cases": rows}, root=str(root)
    )
