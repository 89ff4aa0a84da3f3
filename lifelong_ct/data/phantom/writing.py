"""A phantom hospital as ordinary files, for whoever reads NIfTI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from lifelong_ct.core import files
from lifelong_ct.core.types import Case
from lifelong_ct.data.layouts import Layout


def write_hospital(layout: Layout, folder: Path) -> Path:
    """Writes every case of a hospital, and the manifest that the `manifest` layout reads.

    Args:
        layout: the hospital; its label maps keep the ids 1 … n in the order of each case's organs.
        folder: gets `images/<id>.nii.gz`, `labels/<id>.nii.gz` and `manifest.json`; what it holds under these
            names is replaced.

    Returns:
        Path of the manifest.

    Raises:
        LifelongCTError: the folder cannot be written.
    """
    cases = list(layout.cases())
    for part in ("images", "labels"):
        with files.new_directory(folder / part) as scratch:
            for case in cases:
                raw = layout.load(case)
                voxels = raw.image if part == "images" else raw.label
                assert voxels is not None
                _save(voxels, raw.affine, scratch / f"{case.id}.nii.gz")
    manifest = folder / "manifest.json"
    first = cases[0]
    files.write_json(
        manifest,
        {
            "hospital": first.hospital,
            "labels": {organ: i for i, organ in enumerate(first.organs, start=1)},
            "cases": [_entry(case) for case in cases],
        },
    )
    return manifest


def _entry(case: Case) -> dict[str, Any]:
    return {
        "id": case.id,
        "image": f"images/{case.id}.nii.gz",
        "label": f"labels/{case.id}.nii.gz",
        "patient": case.patient,
        "modality": case.modality,
        "split": case.split,
        "organs": list(case.organs),
        "licence": case.licence,
        "label_kind": case.label_kind,
    }


def _save(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64], path: Path) -> None:
    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
