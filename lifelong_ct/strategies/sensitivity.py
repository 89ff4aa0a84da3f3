"""How much the model's answers on single patches depend on each parameter, for EWC and MAS.

Letters of shapes: B patch, C channel, V voxel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lifelong_ct.data.labels import LabelSpace

Objective = Callable[[Tensor, Tensor, int], Tensor]
"""Logits `[1,C,D,H,W]`, codes `[1,1,D,H,W]` and the number of the patch → scalar."""
Measure = Callable[[list[Tensor]], Any]
"""Gradients → what is averaged of them, such as their squares."""


def mean_over_patches(
    strategy: Any, patches: int, objective: Objective, measure: Measure
) -> dict[str, Tensor]:
    """Mean over held-out patches of a measure of the gradient of one patch's objective, per parameter.

    The model is in eval mode meanwhile. Parameters without a gradient have 0.
    """
    model = strategy.model
    was_training = model.training
    model.eval()
    mean = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i, (x, y) in enumerate(strategy.held_out_patches(patches)):
        model.zero_grad(set_to_none=True)
        objective(model(x), y, i).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        with torch.no_grad():
            share = torch._foreach_div(measure(list(gradients.values())), patches)
            torch._foreach_add_([mean[name] for name in gradients], share)
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return mean


def squares(gradients: list[Tensor]) -> Any:
    """g² of each."""
    return torch._foreach_mul(gradients, gradients)


def magnitudes(gradients: list[Tensor]) -> Any:
    """|g| of each."""
    return torch._foreach_abs(gradients)


def log_likelihood(logits: Tensor, y: Tensor, space: LabelSpace) -> Tensor:
    """log p(y) of each patch `[B]`: the mean over its annotated voxels of the log of the summed probability of the
    channels that a voxel's code allows.

    A voxel that may be any channel (padding, nothing annotated) is not annotated; without an annotated voxel the
    value is 0, with a gradient.

    Args:
        logits: float `[B,C,D,H,W]`.
        y: codes `[B,1,D,H,W]`.
        space: decodes them.
    """
    allowed_BVC, known_BV = _decoded(logits, y, space)
    log_p_BCV = logits.float().flatten(2).log_softmax(1)
    of_voxel_BV = log_p_BCV.masked_fill(~allowed_BVC.movedim(2, 1), float("-inf")).logsumexp(1)
    return torch.where(known_BV, of_voxel_BV, 0.0).sum(1) / known_BV.sum(1).clamp(min=1)


def sampled_score(logits: Tensor, y: Tensor, space: LabelSpace, rng: np.random.Generator) -> Tensor:
    """Σ log p(ŷ) / √V of each patch `[B]`, over its V annotated voxels, with labels ŷ drawn from the model's softmax.

    The squared gradient of this is √V times that of the mean log-likelihood, squared: labels are drawn for each voxel
    on its own, so that products between voxels vanish in expectation, and what stays is the *mean over voxels* of the
    Fisher information of a voxel. Without the √V it would fall with the size of the patch.

    Args:
        logits: float `[B,C,D,H,W]`.
        y: codes `[B,1,D,H,W]`; says which voxels are annotated, nothing else.
        space: decodes them.
        rng: one uniform number per voxel is drawn from it, the same on every device.
    """
    _, known_BV = _decoded(logits, y, space)
    log_p_BCV = logits.float().flatten(2).log_softmax(1)
    drawn_BV = draw(log_p_BCV.detach().exp(), rng)
    of_voxel_BV = log_p_BCV.gather(1, drawn_BV[:, None])[:, 0]
    return torch.where(known_BV, of_voxel_BV, 0.0).sum(1) / known_BV.sum(1).clamp(min=1).sqrt()


def draw(p_BCV: Tensor, rng: np.random.Generator) -> Tensor:
    """A channel for each voxel `[B,V]`, by inversion of the distribution function."""
    uniform = rng.random((p_BCV.shape[0], 1, p_BCV.shape[2]), dtype=np.float32)
    return (p_BCV.cumsum(1)[:, :-1] <= torch.from_numpy(uniform).to(p_BCV.device)).sum(1)


def _decoded(logits: Tensor, y: Tensor, space: LabelSpace) -> tuple[Tensor, Tensor]:
    """Whether a voxel may be a channel `[B,V,C]`, and whether anything is known of it `[B,V]`."""
    allowed = torch.tensor(space.candidates(logits.shape[1]), device=logits.device)[y.flatten(1).long()]
    return allowed, ~allowed.all(2)
