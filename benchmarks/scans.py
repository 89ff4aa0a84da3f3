"""Scans like those of AbdomenAtlas, drawn: nine labelled organs, a scanner's noise, air outside its circle."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import zoom

from lifelong_ct.core.seeding import generator
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.phantom import Scanner
from lifelong_ct.data.types import RawCase

VERSION = 2
FIELD = (380.0, 380.0, 320.0)
"""mm that a scan shows along D, H, W."""
NOISE, GRAIN = 14.0, 0.9
"""HU, and correlation length in mm: a scan compresses about as well as the real ones (see the README)."""


def draw(shape: tuple[int, int, int], count: int) -> list[RawCase]:
    """Cases of a drawn hospital: anatomy at half the resolution, noise at the full one."""
    half = tuple(max(8, n // 2) for n in shape)
    blank = {"spacing": [f / n for f, n in zip(FIELD, half)], "noise": 0.0, "kernel": 0.0, "thickness": 0.0}
    layout = PhantomLayout("benchmark", train=count, test=0, shape=half, scanner=blank)
    spacing = tuple(f / n for f, n in zip(FIELD, shape))
    scanner = Scanner(spacing=spacing, thickness=spacing[2], kernel=1.2, noise=NOISE, grain=GRAIN)
    circle = _circle(shape)
    cases = []
    for index, case in enumerate(layout.cases()):
        raw = layout.load(case)
        factor = [n / m for n, m in zip(shape, half)]
        ideal = zoom(raw.image.astype(np.float32), factor, order=1, mode="nearest", grid_mode=True)
        image = scanner.scan(ideal, generator("benchmark", index))
        image[~circle] = -1024
        assert raw.label is not None
        label = zoom(raw.label, factor, order=0, mode="nearest", grid_mode=True)
        label[~circle] = 0
        cases.append(RawCase(image, label, np.diag([*spacing, 1.0]), raw.organs))
    return cases


def prepared(folder: Path, shape: tuple[int, int, int], count: int) -> list[Path]:
    """Folders with `image.nii.gz`, `label.nii.gz` and the same as `.npy`; drawn unless they are there."""
    stamp, wanted = folder / "scans.json", {"version": VERSION, "shape": list(shape), "count": count}
    paths = [folder / f"scan{i:02d}" for i in range(count)]
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return paths
    for path, raw in zip(paths, draw(shape, count)):
        path.mkdir(parents=True, exist_ok=True)
        for name, voxels in (("image", raw.image), ("label", raw.label)):
            assert voxels is not None
            np.save(path / f"{name}.npy", voxels)
            nib.save(nib.Nifti1Image(voxels, raw.affine), path / f"{name}.nii.gz")
        (path / "organs.json").write_text(json.dumps(raw.organs))
    stamp.write_text(json.dumps(wanted))
    return paths


def load(path: Path) -> RawCase:
    """A prepared scan from its arrays."""
    image = np.load(path / "image.npy")
    affine = nib.load(path / "image.nii.gz").affine
    organs = tuple(json.loads((path / "organs.json").read_text()))
    return RawCase(image, np.load(path / "label.npy"), affine, organs)


def _circle(shape: tuple[int, int, int]) -> np.ndarray:
    """What a scanner reconstructs: the circle in each slice."""
    d, h, w = shape
    x, y = np.ogrid[-1 : 1 : d * 1j, -1 : 1 : h * 1j]
    return np.broadcast_to((x * x + y * y <= 1.0)[:, :, None], (d, h, w))
