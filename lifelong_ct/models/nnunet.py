"""The network of nnU-Net's plans as a backbone, with the weights of its checkpoint where there is one."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import default_vocabulary
from lifelong_ct.models.plans import FAMILY, Plan
from lifelong_ct.models.segmentation import SegmentationModel

NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet")
"""Those that end in a `UNetDecoder`, whose last layer is the head."""
EVERYTHING = (-32768.0, 32767.0)
_HEAD = "decoder.seg_layers."
_MAKERS: list[Any] = [np.float64().__reduce__()[0], np.empty(0).__reduce__()[0]]
_NUMBERS: list[Any] = [
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "bool")),
    *(
        (maker, f"numpy.{core}.multiarray.{maker.__name__}")
        for maker in _MAKERS
        for core in ("core", "_core")
    ),  # as numpy 1 and 2 write them
]
"""What nnU-Net logs beside the weights, as plain numbers."""


class Backbone(nn.Module):
    """nnU-Net's network up to its last layer, on our axes.

    Args:
        network: whose arrays have nnU-Net's axes.
        order: for each axis of the network, which of ours it is.
        turned: our axes that run the other way there.
    """

    def __init__(self, network: nn.Module, order: Sequence[int], turned: Sequence[int] = ()) -> None:
        super().__init__()
        self.network = network
        self._there = (0, 1, *(2 + axis for axis in order))
        self._back = (0, 1, *(2 + list(order).index(axis) for axis in range(3)))
        self._turned = [2 + axis for axis in turned]

    def forward(self, x: Tensor) -> Tensor:
        """`[B,C,D,H,W]` → features `[B,F,D,H,W]`."""
        x = self.network(self.there(x)).permute(self._back)
        return x.flip(self._turned) if self._turned else x

    def there(self, x: Tensor) -> Tensor:
        """`[B,C,D,H,W]` on the network's axes."""
        x = x.flip(self._turned) if self._turned else x
        return x.permute(self._there)


class NnunetModel(SegmentationModel):
    """[normalise as planned + the planned network + growing head].

    With weights the head knows their organs: `know` gives them their rows, so that the model scores as nnU-Net trained it
    before it learns anything here.

    Args:
        plans: path of `nnUNetPlans.json`, or of the `plans.json` of a trained model.
        configuration: of the plans.
        weights: path of `checkpoint_final.pth` or another checkpoint of nnU-Net; None starts afresh, as nnU-Net does.
            Read with `weights_only`: nothing in it is executed.
        labels: organ → id in the checkpoint; None for the names in its own `dataset.json`, of which those that are no
            organs are left out. With regions (sigmoids) the head starts afresh.
        channels: images of a scan.
        orientation: axis codes of the files that the weights were trained on; nnU-Net does not turn scans.
        spacing: mm that the run brings scans to; with weights it must be the one of the plans.
        window: HU that strategies may clip what they keep to: it must hold what the plans clip to.

    Attributes:
        plan: what the plans say.
        organs: those whose rows are known, canonical.

    Raises:
        LifelongCTError: `dynamic_network_architectures` is not installed, plans or weights cannot be used, or do not fit
            each other or the stream.
    """

    def __init__(
        self,
        plans: str | Path | None,
        configuration: str = "3d_fullres",
        weights: str | Path | None = None,
        labels: Mapping[str, int] | None = None,
        channels: int = 1,
        orientation: str = "RAS",
        spacing: Sequence[float] | str | None = None,
        window: Sequence[float] = EVERYTHING,
    ) -> None:
        if plans is None:
            fix = "give model.plans=nnUNetPlans.json, of nnUNet_preprocessed or of a trained model"
            raise LifelongCTError("there are no plans", "model.plans", fix)
        plan = Plan.read(plans, configuration, orientation)
        if len(plan.normalise.channels) != channels:
            what = f"the plans are of {len(plan.normalise.channels)} channels, the stream of {channels}"
            raise LifelongCTError(what, "model.plans, stream.channels", "use plans of such scans")
        _check_window(plan, window)
        state, named = ({}, {}) if weights is None else read_checkpoint(weights)
        rows = next((len(v) for name, v in state.items() if name.startswith(_HEAD)), 2)
        network = build(plan, channels, rows)
        if weights is not None:
            _check_spacing(plan, spacing)
            _load(network, state, Path(weights).name)
        last: nn.Conv3d = network.decoder.seg_layers[-1]  # type: ignore[union-attr,index,assignment]
        super().__init__(Backbone(_headless(network), plan.order, plan.turned), last.in_channels)
        self.plan, self.normalise = plan, plan.normalise  # type: ignore[assignment]
        self._rows: dict[str, tuple[Tensor, Tensor]] = {}
        if weights is not None:
            self._take_rows(last, _organs(labels, named))

    @property
    def organs(self) -> tuple[str, ...]:
        """Those whose rows are known."""
        return tuple(self._rows)

    def know(self, channels: Iterable[str]) -> None:
        """Grows the head to background and these organs; those of the weights have their rows.

        Args:
            channels: organs in the order of the head's channels.
        """
        wanted = list(channels)
        self.grow(1 + len(wanted))
        with torch.no_grad():
            for row, organ in enumerate(wanted, start=1):
                if organ in self._rows:
                    self.head.weight[row], self.head.bias[row] = self._rows[organ]

    def _take_rows(self, last: nn.Conv3d, organs: Mapping[str, int]) -> None:
        assert last.bias is not None
        weight, bias = last.weight.detach(), last.bias.detach()
        for organ, row in organs.items():
            if not 0 < row < len(weight):
                what = f"{organ} has the id {row}, the weights have 1 to {len(weight) - 1}"
                raise LifelongCTError(what, "model.labels", "give the ids of the checkpoint's dataset.json")
            self._rows[organ] = weight[row], bias[row]
        if organs:
            with torch.no_grad():
                self.head.weight[0], self.head.bias[0] = weight[0], bias[0]


def build(plan: Plan, channels: int, rows: int) -> nn.Module:
    """The network as nnU-Net builds and initialises it, without deep supervision, in nnU-Net's axes.

    Only networks of `NETWORKS` and modules of `torch.nn` can be named in plans.

    Raises:
        LifelongCTError: another network or module, arguments that do not fit, or the package is not installed.
    """
    kind, given = str(plan.architecture["network_class_name"]), dict(plan.architecture["arch_kwargs"])
    name = kind.rpartition(".")[2]
    if not kind.startswith(FAMILY) or name not in NETWORKS:
        raise LifelongCTError(
            f"{kind} cannot be built", "model.plans", f"use plans of {' or '.join(NETWORKS)}"
        )
    for key in plan.architecture.get("_kw_requires_import", ()):
        given[key] = None if given.get(key) is None else _module(str(given[key]), key)
    try:
        made = getattr(importlib.import_module(f"{FAMILY}unet"), name)
        network: nn.Module = made(
            input_channels=channels, num_classes=rows, **{**given, "deep_supervision": False}
        )
    except ImportError as error:
        raise LifelongCTError(
            f"dynamic_network_architectures is not installed: {error}",
            "model=nnunet",
            'pip install "lifelong-ct[nnunet]" brings it',
        ) from error
    except (TypeError, AssertionError, ValueError) as error:
        what = f"{name} cannot be built: {' '.join(str(error).split())}"
        raise LifelongCTError(what, "model.plans", "give plans as nnU-Net wrote them") from error
    network.apply(made.initialize)
    return network


def _module(path: str, key: str) -> type[nn.Module]:
    root, _, name = path.rpartition(".")
    found = getattr(nn, name, None)
    inside = root == "torch.nn" or root.startswith("torch.nn.modules.")
    if not inside or not isinstance(found, type) or not issubclass(found, nn.Module):
        raise LifelongCTError(
            f"{key} is {path!r}, which is no module of torch.nn", "model.plans", "use nnU-Net's own plans"
        )
    return found


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Weights by their names, and the names → ids of labels, of a checkpoint of nnU-Net.

    Raises:
        LifelongCTError: it cannot be read, holds more than tensors and plain values, or is none of nnU-Net's.
    """
    where = f"model.weights, {Path(path).name}"
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise LifelongCTError(
            f"the weights cannot be read: {error.strerror}", where, "check the path"
        ) from error
    except Exception as error:  # whatever the unpickler stumbles over in a file that is none
        what = f"it is no checkpoint of tensors and plain values: {' '.join(str(error).split())[:200]}"
        fix = "give checkpoint_final.pth as nnU-Net wrote it; what else is in it will not be executed"
        raise LifelongCTError(what, where, fix) from error
    weights = content.get("network_weights") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise LifelongCTError("it has no network_weights", where, "give checkpoint_final.pth of nnU-Net v2")
    plain = {_plain(name): value for name, value in weights.items()}
    about: Any = content
    for key in ("init_args", "dataset_json", "labels"):
        about = about.get(key) if isinstance(about, Mapping) else None
    return plain, about if isinstance(about, Mapping) else {}


def _plain(name: str) -> str:
    """Without what `DataParallel` and `torch.compile` put before it."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")


def _load(network: nn.Module, state: Mapping[str, Tensor], file: str) -> None:
    own = network.state_dict()
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape),
    }
    if any(problems.values()):
        told = "; ".join(
            f"{len(names)} {kind}: {', '.join(names)}" for kind, names in problems.items() if names
        )
        fix = "give the plans.json and the model.configuration of these weights"
        raise LifelongCTError(f"the weights are of another network: {told}", f"model.weights, {file}", fix)
    network.load_state_dict(dict(state))


def _headless(network: nn.Module) -> nn.Module:
    """Without its last layer and those of deep supervision, and each module under one name only."""
    decoder: Any = network.decoder
    decoder.seg_layers = nn.ModuleList(nn.Identity() for _ in decoder.seg_layers)
    del decoder.encoder
    for module in list(network.modules()):
        run = getattr(module, "all_modules", ())
        for name, child in list(module.named_children()):
            if any(child is other for other in run):
                delattr(module, name)
    return network


def _organs(labels: Mapping[str, int] | None, named: Mapping[str, Any]) -> dict[str, int]:
    """Canonical organ → row of the head. Empty for regions: their sigmoids are no softmax."""
    canonical = default_vocabulary().canonical
    if labels is not None:
        return {canonical(organ, "model.labels"): int(row) for organ, row in labels.items()}
    if any(not isinstance(i, int) for i in named.values()):
        return {}
    found = {}
    for name, row in named.items():
        if row == 0 or name == "ignore":
            continue
        try:
            found[canonical(name)] = row
        except LifelongCTError:
            continue  # no organ that a stream could have
    return found


def _check_window(plan: Plan, window: Sequence[float]) -> None:
    """Strategies clip to it; the model must not see that."""
    for how in plan.normalise.channels:
        low, high = EVERYTHING if how is None else how[:2]
        if not window[0] <= max(low, EVERYTHING[0]) <= min(high, EVERYTHING[1]) <= window[1]:
            what = f"the window {list(window)} cuts off what the plans clip to, [{low}, {high}]"
            fix = f"use model.window=[{math.floor(low)},{math.ceil(high)}], or leave it out"
            raise LifelongCTError(what, "model.window", fix)


def _check_spacing(plan: Plan, spacing: Sequence[float] | str | None) -> None:
    if isinstance(spacing, (list, tuple)) and np.allclose(spacing, plan.spacing, rtol=0.01):
        return
    mm, patch = (str(list(values)).replace(" ", "") for values in (plan.spacing, plan.patch))
    raise LifelongCTError(
        f"the weights are of scans on {mm} mm, the stream has {'its own' if spacing is None else spacing}",
        "stream.spacing",
        f"use stream.spacing={mm} stream.patch={patch}, or say model.spacing={mm} if that is meant",
    )
