"""What distillation shares: a model of before, frozen, counted, kept in checkpoints, and what its channels know."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.models.segmentation import SegmentationModel


class TeacherPlugin(StrategyPlugin):
    """Keeps the model of the last experience as a teacher: in eval mode, without gradients. Bytes: one copy of the
    model, whatever the number of experiences.

    Attributes:
        teacher: None before the first experience has ended.
    """

    distributed = True

    def __init__(self) -> None:
        super().__init__()
        self.teacher: SegmentationModel | None = None

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The model of now becomes the teacher."""
        self.teach(strategy.model)

    def teach(self, model: SegmentationModel) -> None:
        """Copies a model, after asking for its bytes."""
        self._admit(model)
        model.zero_grad(set_to_none=True)  # a deep copy would copy the gradients too
        self._freeze(copy.deepcopy(model))

    def answer(self, strategy: Any) -> Tensor:
        """The teacher's logits `[B,C_old,D,H,W]` of the micro-batch, without a gradient."""
        assert self.teacher is not None
        with torch.no_grad():
            logits: Tensor = strategy.forward_with(self.teacher)
        return logits

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return {"gpu": model_bytes}

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": None if self.teacher is None else dict(self.teacher.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["teacher"] is None:
            self.teacher = None
            return
        teacher = self.context.new_model()
        teacher.grow(state["teacher"]["head.bias"].shape[0])
        teacher.load_state_dict(state["teacher"])
        self._admit(teacher)
        self._freeze(teacher)

    def state_within(self) -> dict[str, Any]:
        """The teacher stays as it is while it teaches."""
        return {}

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": 0 if self.teacher is None else tensor_bytes(dict(self.teacher.state_dict()))}

    def _admit(self, model: SegmentationModel) -> None:
        owner = f"{type(self).__name__} teacher"
        self.context.ledger.admit("gpu", owner, tensor_bytes(dict(model.state_dict())))

    def _freeze(self, teacher: SegmentationModel) -> None:
        self.teacher = teacher.eval().requires_grad_(False)


def inside(y: Tensor) -> Tensor:
    """Voxels that are no padding: codes `[B,1,D,H,W]` → bool `[B,D,H,W]`. Of padding there is nothing to distil: nobody
    looks there, and it would take the place of voxels that somebody does look at."""
    return y[:, 0].long() != IGNORE


def mean_inside(values: Tensor, y: Tensor | None) -> Tensor:
    """Mean over the samples, each the mean over its voxels that are no padding, as in the loss; 0 where all are.

    Args:
        values: per voxel, `[B,D,H,W]`.
        y: codes `[B,1,D,H,W]`; None where all voxels count.
    """
    if y is None:
        return values.mean()
    counted = inside(y).flatten(1)
    sums = torch.where(counted, values.flatten(1), 0.0).sum(1)
    return (sums / counted.sum(1).clamp(min=1)).mean()


def heirs(space: LabelSpace, old: int, new: int) -> list[list[int]]:
    """Which channels of a head say what each channel of a narrower, older head said.

    Where the old model did not know an organ it saw the innermost organ around it that it knew (the liver for a
    tumour of the liver), or else background. An organ that may lie anywhere counts as background.

    Args:
        space: names the channels.
        old, new: widths of the two heads.

    Returns:
        Per old channel the new ones: itself first.
    """
    groups = [[channel] for channel in range(old)]
    names = [None, *space.channels]
    for channel in range(old, new):
        around = [o for o in names[1:old] if o and space.vocabulary.contains(o, names[channel])]
        # the innermost lies in all the others
        inner = next((o for o in around if all(space.vocabulary.contains(x, o) for x in around)), None)
        groups[0 if inner is None else names.index(inner)].append(channel)
    return groups


def folded(log_p: Tensor, groups: list[list[int]]) -> Tensor:
    """Log-probabilities of a wide head `[B,C,...]` as a narrow head would have them `[B,len(groups),...]`: each
    group's probabilities are summed."""
    return torch.stack(
        [
            log_p[:, group[0]] if len(group) == 1 else log_p[:, group].logsumexp(1)  # a list, not a mask
            for group in groups
        ],
        1,
    )
