"""nnU-Net's plans: what one configuration says of network, patch, spacing and intensities.

Isensee et al., Nature Methods 2021, doi 10.1038/s41592-020-01008-z. nnU-Net's arrays are `[z, y, x]` as the file has
them, turned by `transpose_forward`; ours are `[D, H, W]` in canonical order (right, front, up).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError

FAMILY = "dynamic_network_architectures.architectures."
_AXES = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
_TURNED = "LPI"
Triple = tuple[int, int, int]


class NormaliseCT(nn.Module):
    """nnU-Net's `CTNormalization`: clip to two percentiles, then (x - mean) / standard deviation, each per channel. No
    parameters.

    Args:
        channels: (low, high, mean, std) of each, in the unit of the voxels; None leaves a channel as it is.
    """

    def __init__(self, channels: Sequence[tuple[float, float, float, float] | None]) -> None:
        super().__init__()
        self.channels = list(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[B,C,D,H,W]` → the same shape, float."""
        x = x if x.is_floating_point() else x.float()
        parts = x.split(1, 1)
        return torch.cat([_normalised(p, how) for p, how in zip(parts, self.channels, strict=True)], 1)


def _normalised(x: Tensor, how: tuple[float, float, float, float] | None) -> Tensor:
    if how is None:
        return x
    low, high, mean, std = how
    return (x.clamp(low, high) - mean) / max(std, 1e-8)


@dataclass(frozen=True)
class Plan:
    """One configuration.

    Attributes:
        name: of the configuration.
        architecture: `network_class_name`, `arch_kwargs`, `_kw_requires_import`.
        patch: voxels `[D, H, W]`.
        spacing: mm `[D, H, W]`.
        batch_size: patches per step.
        normalise: of the images.
        order: for each axis of nnU-Net's arrays, which of ours it is.
        turned: our axes that run the other way in nnU-Net's arrays.
    """

    name: str
    architecture: Mapping[str, Any]
    patch: Triple
    spacing: tuple[float, float, float]
    batch_size: int
    normalise: NormaliseCT
    order: Triple
    turned: tuple[int, ...]

    @classmethod
    def read(cls, path: str | Path, configuration: str = "3d_fullres", orientation: str = "RAS") -> Plan:
        """From `nnUNetPlans.json`, or the `plans.json` beside trained weights.

        Args:
            path: of the file.
            configuration: its name there, of three dimensions.
            orientation: axis codes (nibabel's `aff2axcodes`) of the files that nnU-Net read: it leaves them as they are.

        Raises:
            LifelongCTError: no such file or configuration, one of two dimensions or of a cascade, or a normalisation
                that needs the whole scan.
        """
        where = f"model.plans, {Path(path).name}"
        plans = _content(path, where)
        own = _resolved(plans, configuration, where)
        try:
            back = _ours(orientation, plans.get("transpose_forward", (0, 1, 2)))
            return cls(
                configuration,
                _architecture(own),
                _in_our_order(own["patch_size"], back, int),
                _in_our_order(own["spacing"], back, float),
                int(own["batch_size"]),
                _normalisation(plans, own["normalization_schemes"], where),
                back,
                tuple(sorted(_AXES[code] for code in orientation if code in _TURNED)),
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f"{configuration} has no valid {error}"
            raise LifelongCTError(what, where, "give plans of nnU-Net v2 as it wrote them") from error


def _content(path: str | Path, where: str) -> Mapping[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        fix = "give nnUNetPlans.json of nnUNet_preprocessed, or plans.json of nnUNet_results"
        raise LifelongCTError(f"the plans cannot be read: {reason}", where, fix) from error
    if not isinstance(content, Mapping) or not isinstance(content.get("configurations"), Mapping):
        raise LifelongCTError("it has no configurations", where, "give nnUNetPlans.json of nnU-Net v2")
    return content


def _resolved(plans: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """A configuration with what it inherits."""
    known, chain = plans["configurations"], [name]
    own: dict[str, Any] = {}
    while chain[-1] in known and chain.count(chain[-1]) == 1:
        own = {**known[chain[-1]], **own}
        if "inherits_from" not in known[chain[-1]]:
            break
        chain.append(known[chain[-1]]["inherits_from"])
    else:
        raise LifelongCTError(
            f"there is no configuration {chain[-1]!r}", where, f"model.configuration: {', '.join(known)}"
        )
    if own.get("previous_stage") or len(own.get("patch_size", ())) != 3:
        what = f"{name} {'needs the segmentation of another stage' if own.get('previous_stage') else 'is not 3D'}"
        raise LifelongCTError(what, where, "use model.configuration=3d_fullres or 3d_lowres")
    return own


def _architecture(own: Mapping[str, Any]) -> Mapping[str, Any]:
    """As it stands there; of plans from before nnU-Net 2.4, as nnU-Net itself completes them."""
    if "architecture" in own:
        return own["architecture"]
    strides = own["pool_op_kernel_sizes"]
    blocks = "n_conv_per_stage" if own["UNet_class_name"] == "PlainConvUNet" else "n_blocks_per_stage"
    base, most = own["UNet_base_num_features"], own["unet_max_num_features"]
    return {
        "network_class_name": f"{FAMILY}unet.{own['UNet_class_name']}",
        "arch_kwargs": {
            "n_stages": len(strides),
            "features_per_stage": [min(base * 2**i, most) for i in range(len(strides))],
            "conv_op": "torch.nn.Conv3d",
            "kernel_sizes": own["conv_kernel_sizes"],
            "strides": strides,
            blocks: own["n_conv_per_stage_encoder"],
            "n_conv_per_stage_decoder": own["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": "torch.nn.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
    }


def _ours(orientation: str, transpose: Sequence[int]) -> Triple:
    if sorted(_AXES.get(code, -1) for code in orientation) != [0, 1, 2]:
        raise LifelongCTError(
            f"orientation={orientation!r}", "model.orientation", "write axis codes such as RAS or LPS"
        )
    a, b, c = (_AXES[orientation[2 - axis]] for axis in transpose)
    return a, b, c


def _in_our_order(values: Sequence[Any], order: Triple, kind: type) -> Any:
    return tuple(kind(values[order.index(axis)]) for axis in range(3))


def _normalisation(plans: Mapping[str, Any], schemes: Sequence[str], where: str) -> NormaliseCT:
    found: list[tuple[float, float, float, float] | None] = []
    for channel, scheme in enumerate(schemes):
        if scheme not in ("CTNormalization", "NoNormalization"):
            raise LifelongCTError(
                f"channel {channel} has {scheme}, which needs the whole scan; a patch does not show it",
                where,
                "use plans whose channels are CT: CTNormalization or NoNormalization",
            )
        keys = ("percentile_00_5", "percentile_99_5", "mean", "std")
        properties = plans["foreground_intensity_properties_per_channel"]
        own = None if scheme == "NoNormalization" else properties[str(channel)]
        found.append(own and tuple(float(own[key]) for key in keys))
    return NormaliseCT(found)
