"""A trained model out of a checkpoint, ready to predict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lifelong_ct.core.errors import CheckpointError
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.models.restoring import fitted
from lifelong_ct.training import checkpoint


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
    """

    model: nn.Module
    label_space: LabelSpace
    spacing: tuple[float, ...] | None
    roi: tuple[int, ...]
    after: int
    channels: int = 1
    modality: str | None = "CT"


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
    )
