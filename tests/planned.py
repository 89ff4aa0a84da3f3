"""Small plans of nnU-Net and a checkpoint of the form that nnU-Net writes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

LABELS = {"background": 0, "spleen": 1, "liver": 2, "cancer": 3}
"""Not in the order of any stream, and with a name that is no organ."""
INTENSITIES = {"percentile_00_5": -100.5, "percentile_99_5": 240.0, "mean": 80.25, "std": 60.5}
PLANS: dict[str, Any] = {
    "dataset_name": "Dataset001_North",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [1, 0, 2],
    "transpose_backward": [1, 0, 2],
    "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
    "configurations": {
        "2d": {"patch_size": [64, 64], "spacing": [1.0, 1.0]},
        "3d_fullres": {
            "patch_size": [24, 32, 16],
            "spacing": [1.5, 3.0, 2.0],
            "batch_size": 2,
            "normalization_schemes": ["CTNormalization"],
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": 3,
                    "features_per_stage": [4, 6, 8],
                    "conv_op": "torch.nn.modules.conv.Conv3d",
                    "kernel_sizes": [[3, 1, 3], [3, 3, 3], [3, 3, 3]],
                    "strides": [[1, 1, 1], [2, 1, 2], [2, 2, 2]],
                    "n_conv_per_stage": [1, 2, 1],
                    "n_conv_per_stage_decoder": [1, 1],
                    "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        },
        "3d_bs4": {"inherits_from": "3d_fullres", "batch_size": 4},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    },
}
"""The patch is [z, y, x] turned by [1, 0, 2]: y, z, x."""
RESIDUAL = {"n_blocks_per_stage": [1, 2, 1]}


def plans(change: Callable[[dict[str, Any]], Any] = lambda own: None) -> dict[str, Any]:
    """A copy, with a change to `3d_fullres`."""
    made = copy.deepcopy(PLANS)
    change(made["configurations"]["3d_fullres"])
    return made


def residual(own: dict[str, Any]) -> None:
    """A residual encoder instead."""
    architecture = own["architecture"]
    architecture["network_class_name"] = architecture["network_class_name"].replace(
        "PlainConv", "ResidualEncoder"
    )
    del architecture["arch_kwargs"]["n_conv_per_stage"]
    architecture["arch_kwargs"] |= RESIDUAL


def network(content: dict[str, Any], rows: int = len(LABELS), deep_supervision: bool = False) -> nn.Module:
    """As `nnunetv2.utilities.get_network_from_plans` builds it: the same calls, without nnU-Net."""
    from dynamic_network_architectures.architectures import unet

    own = content["configurations"]["3d_fullres"]["architecture"]
    given = dict(own["arch_kwargs"])
    for key in own["_kw_requires_import"]:
        given[key] = None if given[key] is None else getattr(nn, given[key].rpartition(".")[2])
    kind = getattr(unet, own["network_class_name"].rpartition(".")[2])
    made: nn.Module = kind(
        input_channels=1, num_classes=rows, **given | {"deep_supervision": deep_supervision}
    )
    made.apply(kind.initialize)
    return made


def checkpoint(made: nn.Module, labels: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """What `nnUNetTrainer.save_checkpoint` of nnU-Net 2.8 saves."""
    return {
        "network_weights": made.state_dict(),
        "optimizer_state": torch.optim.SGD(made.parameters(), 0.01).state_dict(),
        "grad_scaler_state": None,
        "logging": {
            "train_losses": [np.float32(0.5)],
            "mean_fg_dice": [np.float64(0.25)],
            "lrs": np.full(2, 0.01),
        },
        "_best_ema": np.float64(0.25),
        "current_epoch": 1000,
        "init_args": {
            "plans": content,
            "configuration": "3d_fullres",
            "fold": 0,
            "dataset_json": {"labels": labels, "channel_names": {"0": "CT"}},
            "device": torch.device("cuda", 0),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


def write(
    folder: Path, content: dict[str, Any] | None = None, labels: dict[str, Any] | None = None
) -> tuple[Path, Path, nn.Module]:
    """`plans.json`, `checkpoint_final.pth`, and the network that is saved there, with deep supervision."""
    content, labels = content or plans(), labels or LABELS
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    made = network(content, len(labels), deep_supervision=True)
    for parameter in made.parameters():  # its biases start at 0 and would hide a mistake
        nn.init.normal_(parameter, std=0.3)
    (folder / "plans.json").write_text(json.dumps(content))
    torch.save(checkpoint(made, labels, content), folder / "checkpoint_final.pth")
    return folder / "plans.json", folder / "checkpoint_final.pth", made
