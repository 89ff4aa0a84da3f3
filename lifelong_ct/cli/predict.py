"""The verb `predict`: scans in; segmentation in the same geometry, and organ volumes, out."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from rich.progress import track

from lifelong_ct.cli import compose
from lifelong_ct.cli.arguments import need, newest_checkpoint, take
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import unwritable, write_text
from lifelong_ct.data.images import read_image
from lifelong_ct.data.ingest import prepare
from lifelong_ct.data.scales import MODALITIES
from lifelong_ct.evaluation.inference import predict_labels
from lifelong_ct.evaluation.resample import labels_to_grid
from lifelong_ct.evaluation.volume import volume_ml
from lifelong_ct.reporting.text import shown_path
from lifelong_ct.training.distributed import place
from lifelong_ct.training.serving import Served, load_model


def main(args: Sequence[str]) -> int:
    """`from=RUN in=SCAN_OR_FOLDER out=FOLDER [modality=MR]`; a scan is a file, a folder of DICOM, or one of these
    per channel with commas between."""
    rest = list(args)
    source, given = need(rest, "from", "RUN_FOLDER"), need(rest, "in", "SCAN.nii.gz").split(",")
    out, modality = Path(need(rest, "out", "FOLDER")), take(rest, "modality")
    request = compose.parse(rest)
    blueprint = Blueprint(compose.compose(request), request.overrides)
    for path in map(Path, given):
        blueprint.redact.hide_root(path.parent if path.suffix else path, "in")
        blueprint.redact.hide_path(path, "in", "in")
    blueprint.redact.hide_root(out, "out")
    with blueprint.discreet():
        return _predict(blueprint.values, source, _scans([Path(path) for path in given]), out, modality)


def _predict(
    values: dict[str, Any], source: str, scans: list[list[Path]], out: Path, modality: str | None
) -> int:
    served = load_model(newest_checkpoint(source), lambda: build(values["model"], "model"))
    device = place(values["trainer"]["device"], None)
    served.model.to(device)
    modality = _modality(modality or served.modality)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from error
    lines = [_one(scan, out, served, device, modality) for scan in track(scans, "predicting")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scan", *(f"{organ}_ml" for organ in served.label_space.channels)])
    writer.writerows(lines)
    write_text(out / "volumes.csv", text.getvalue())
    print(f"{len(scans)} segmentations and volumes.csv in {shown_path(out, sys.stdout.isatty())}")
    return 0


def _one(
    scan: list[Path], out: Path, served: Served, device: torch.device, modality: str
) -> list[str | float]:
    if len(scan) != served.channels:
        raise LifelongCTError(
            f"the scan has {len(scan)} channels, the model {served.channels}",
            str(scan[0]),
            "give one file per channel, with commas between",
        )
    raw = read_image(scan, modality)
    ready = prepare(raw, served.spacing)
    image = ready.image if ready.image.ndim == 4 else ready.image[None]
    predicted = predict_labels(served.model, image, served.roi, device=device)
    affine = raw.affine if raw.original_affine is None else raw.original_affine
    shape = raw.image.shape[-3:] if raw.original_shape is None else raw.original_shape[:3]
    labels = labels_to_grid(predicted, ready.affine, affine, shape)
    name = scan[0].name.removesuffix(".gz").removesuffix(".nii")
    nib.save(nib.Nifti1Image(labels, affine), out / f"{name}_seg.nii.gz")
    spacing = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    organs = range(1, len(served.label_space.channels) + 1)
    return [name, *(round(volume_ml(labels == i, spacing), 3) for i in organs)]


def _modality(name: str | None) -> str:
    if name is None:
        what = "the model was trained on several modalities"
        raise LifelongCTError(
            what, "modality", f"say which this is: modality= one of {', '.join(MODALITIES)}"
        )
    return name


def _scans(paths: list[Path]) -> list[list[Path]]:
    """Files of each scan: one path is a scan, or a folder of NIfTI scans with a single channel each."""
    inside = (
        [p for p in paths[0].iterdir() if p.name.endswith((".nii", ".nii.gz"))] if paths[0].is_dir() else []
    )
    found = [[p] for p in sorted(inside)] if inside and len(paths) == 1 else [paths]
    for path in found[0]:
        if not path.exists():
            fix = "give a .nii or .nii.gz file, a folder of them, or a folder of DICOM slices"
            raise LifelongCTError("there is no scan", str(path), fix)
    return found
