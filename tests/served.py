"""A checkpoint of a small network, and the command that predicts with it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.networks.nets import UNet
from torch import nn

from lifelong_ct.cli.main import main
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.training import checkpoint

CHANNELS = (8, 16, 32)


def made_of(channels: Sequence[int]) -> tuple[str, ...]:
    """Overrides that make the model of a checkpoint."""
    lists = {"channels": list(channels), "strides": [2] * (len(channels) - 1)}
    told = (f"model.backbone.{key}={value}".replace(" ", "") for key, value in lists.items())
    return ("model.features=8", "model.backbone.norm=BATCH", *told)


SMALL = made_of(CHANNELS)


def network(organs: Sequence[str], seed: int = 0, channels: Sequence[int] = CHANNELS) -> SegmentationModel:
    """Random; every channel has its places, since none has higher logits than another on average."""
    torch.manual_seed(seed)
    strides = (2,) * (len(channels) - 1)
    backbone = UNet(3, 1, 8, channels=channels, strides=strides, num_res_units=0, norm="BATCH")
    model = SegmentationModel(backbone, features=8)
    model.grow(1 + len(organs))
    blobs = nn.functional.interpolate(200 * torch.randn(1, 1, 4, 4, 4), scale_factor=4)
    with torch.no_grad():
        model.head.bias -= model.eval()(blobs).mean((0, 2, 3, 4))
    return model.train()


def save(
    folder: Path,
    model: SegmentationModel,
    organs: Sequence[str],
    spacing: Sequence[float] | None,
    roi: Sequence[int],
    coming: Sequence[str] = (),
    said: Mapping[str, Any] | None = None,
) -> Path:
    """What a run would leave after one experience, as far as it is served; `coming` are organs of its stream that the
    model has not learnt yet, `said` is what an earlier version does not say of predicting."""
    space = LabelSpace([*organs, *coming])
    space.see(organs)
    state: dict[str, Any] = {
        "after": 1,
        "learner": {"model": dict(model.state_dict())},
        "label_space": space.state_dict(),
        "serving": {
            "spacing": None if spacing is None else list(spacing),
            "roi": list(roi),
            "channels": 1,
            "modality": "CT",
            **(said or {}),
        },
    }
    checkpoint.save(folder, state)
    return folder


def predict(served: Path, scans: Path, out: Path, *more: str) -> int:
    state = f"paths.state={out.parent / 'state'}"
    return main(["predict", f"from={served}", f"in={scans}", f"out={out}", state, *SMALL, *more])


def table(path: Path) -> dict[str, dict[str, str]]:
    """Rows by scan."""
    return {row.pop("scan"): row for row in csv.DictReader(path.open())}


def geometry(image: Any) -> dict[str, Any]:
    """What a header says about place and size, as bytes and numbers."""
    header = image.header
    fields = [
        *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
        *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
    ]
    return {"shape": image.shape, "kind": type(header), **{f: np.asarray(header[f]).tolist() for f in fields}}


def millilitres(image: Any, channel: int) -> float:
    """Voxel count × voxel volume, by nibabel alone."""
    count = int(np.count_nonzero(np.asarray(image.dataobj) == channel))
    return count * abs(np.linalg.det(image.affine[:3, :3])) / 1000


def turned(image: nib.Nifti1Image, axes: Sequence[int], flips: Sequence[int]) -> nib.Nifti1Image:
    """The same scan with other axes in the file; where each voxel lies stays."""
    return image.as_reoriented(np.column_stack([axes, flips]))
