"""Hospitals of small NIfTI files, and a configuration folder with a stream of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml

from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.types import RawCase

ORGANS = ("liver", "spleen")


@cache
def drawn() -> tuple[RawCase, RawCase]:
    """A scan to train on and one to test on."""
    layout = PhantomLayout("north", train=1, test=1, shape=(32, 32, 32), organs=ORGANS)
    train, test = map(layout.load, layout.cases())
    return train, test


def save(voxels: Any, affine: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(voxels), affine), path)


def entry(name: str, split: str, **changes: Any) -> dict[str, Any]:
    """A row of a manifest."""
    usual = {"id": name, "patient": f"p-{name}", "image": f"{name}/ct.nii.gz", "label": f"{name}/seg.nii.gz"}
    return {**usual, "modality": "CT", "split": split, "organs": list(ORGANS), **changes}


def write(root: Path, rows: Mapping[str, Any]) -> Path:
    """Scan, label map and manifest of `rows`, keys of which are train and test; the manifest."""
    for (_, row), raw in zip(sorted(rows.items(), reverse=True), drawn(), strict=True):
        save(raw.image, raw.affine, root / row["image"])
        save(raw.label, raw.affine, root / row["label"])
    labels = {organ: i for i, organ in enumerate(ORGANS, start=1)}
    manifest = root / "manifest.json"
    manifest.write_text(json.dumps({"hospital": "north", "labels": labels, "cases": list(rows.values())}))
    return manifest


def add(root: Path, *rows: Mapping[str, Any]) -> None:
    """Further rows of a manifest, whose files may be anything."""
    content = json.loads((root / "manifest.json").read_text())
    content["cases"] += rows
    (root / "manifest.json").write_text(json.dumps(content))


def hospital(root: Path) -> Path:
    """One training and one test case with ordinary names; the manifest."""
    return write(root, {split: entry(f"{split}-case", split) for split in ("train", "test")})


def conf(folder: Path, **hospitals: Mapping[str, Any]) -> list[str]:
    """Arguments that make `hospitals` the stream."""
    entries = [{"name": name, "layout": "manifest", **more} for name, more in hospitals.items()]
    stream = {
        "_target_": "lifelong_ct.streams.domain_incremental.DomainIncremental",
        "name": "mine",
        "organs": list(ORGANS),
        "spacing": None,
        "patch": [16, 16, 16],
        "steps": 3,
        "hospitals": entries,
        "unseen": [],
        "first": None,
        "limit": None,
    }
    file = folder / "stream" / "mine.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(stream, sort_keys=False))
    return ["--config-dir", str(folder), "stream=mine"]
