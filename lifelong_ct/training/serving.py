"""A trained model out of a checkpoint, ready to predict."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lifelong_ct.core.errors import CheckpointError
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.models.restoring import fitted
from lifelong_ct.training import checkpoint
from lifelong_ct.training.options import EvaluationOptions
from lifelong_ct.training.precision import amp_type

WINDOWS = ("roi", "overlap", "precision", "mirror")
AMP = "trainer.amp"
PREDICTING = (*(f"evaluation.{key}" for key in WINDOWS), AMP)
"""Keys that predictions depend on: those of the run hold until the user names others."""


@dataclass(frozen=True)
class Served:
    """A model and what it needs to know of its training.

    Attributes:
        model: in evaluation mode.
        label_space: organs and channels.
        spacing: mm per axis, None for each scan's own.
        roi: sliding window in voxels.
        after: experiences it has seen.
        channels: images of a scan.
        modality: of the scans that it was trained on; None where they differed.
        more: overlap, precision and mirror of the windows, where the checkpoint says them.
        amp: autocast of its run, as in `trainer.amp`.
    """

    model: nn.Module
    label_space: LabelSpace
    spacing: tuple[float, ...] | None
    roi: tuple[int, ...]
    after: int
    channels: int = 1
    modality: str | None = "CT"
    more: Mapping[str, Any] = field(default_factory=dict)
    amp: str | None = None

    def options(self, given: EvaluationOptions, named: Collection[str]) -> EvaluationOptions:
        """`given`, with the windows of the run but for what is `named` of `PREDICTING`."""
        own = {"roi": self.roi, **self.more}
        return replace(
            given, **{key: value for key, value in own.items() if f"evaluation.{key}" not in named}
        )

    def autocast(self, given: str | None, named: Collection[str], device: torch.device) -> torch.dtype | None:
        """Of the run, or `given` where that is `named`; none where that of the run needs a GPU and there is none.

        Raises:
            LifelongCTError: `given` is unknown, or nothing for the device.
        """
        if AMP in named:
            return amp_type(given, device)
        return None if self.amp == "fp16" and device.type != "cuda" else amp_type(self.amp, device)


def load_model(folder: Path, new_model: Callable[[], nn.Module]) -> Served:
    """Loads the weights of a checkpoint by name.

    Args:
        folder: of the checkpoint.
        new_model: a model of the architecture that was trained.

    Raises:
        CheckpointError: damaged, or of another architecture.
    """
    state = checkpoint.load(folder)
    space = LabelSpace(state["label_space"]["organs"])
    space.load_state_dict(state["label_space"])
    weights = state["learner"]["model"]
    try:
        model = fitted(new_model(), state["learner"].get("structure"), weights)
        model.load_state_dict(weights)
    except (AttributeError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            "the checkpoint is of another architecture: " + " ".join(str(error).split())[:300],
            str(folder),
            "give the stream=… and model=… with the options that the run had (config.yaml in its folder)",
        ) from error
    serving = state["serving"]
    spacing = None if serving["spacing"] is None else tuple(serving["spacing"])
    return Served(
        model.eval(),
        space,
        spacing,
        tuple(serving["roi"]),
        int(state["after"]),
        serving.get("channels", 1),
        serving.get("modality", "CT"),
        {key: serving[key] for key in WINDOWS[1:] if key in serving},
        serving.get("amp"),
    )
