"""From a stored volume to a label map: sliding windows with Gaussian blending."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.blending import Blend, precision_of
from lifelong_ct.evaluation.certainty import Certainty
from lifelong_ct.evaluation.mirroring import Mirroring
from lifelong_ct.evaluation.windows import Corner, Windows, most_held

PAD_HU = -1024.0
"""Air: what a window sees beyond a volume that is smaller than it."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module has its own mode again.

    `model.train()` would not do: a strategy may keep single modules, such as a frozen batch norm, in
    evaluation mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def predict_labels(
    model: nn.Module,
    image: npt.NDArray[np.int16] | Tensor,
    roi: Sequence[int],
    overlap: float = 0.25,
    device: torch.device | str | None = None,
    amp_dtype: torch.dtype | None = None,
    sw_batch: int = 1,
    ranking: Sequence[int] | None = None,
    *,
    precision: str = "fp32",
    mirroring: Mirroring | None = None,
    depths: Sequence[int] | None = None,
    certainty: Certainty | None = None,
) -> npt.NDArray[np.uint8]:
    """Channel ids of one volume.

    The device holds `sw_batch` windows at a time. Blended logits stand in host memory, where later windows may still add
    to them only (`Windows`, `Blend`): labels are taken from each part once it is complete. `inference_bytes` says how
    much that is.

    Args:
        model: HU `[B,C,D,H,W]` → logits `[B,K+1,D,H,W]`, already on `device`.
        image: int16 HU `[C,D,H,W]`; windows see air beyond it where it is smaller than `roi`.
        roi: window, voxels per axis.
        overlap: share of a window that neighbours have in common, in [0, 1).
        device: where the windows are computed; that of the model's parameters where None.
        amp_dtype: autocast to it, for example `torch.bfloat16`; None computes in the model's own type.
        sw_batch: windows per forward pass.
        ranking: of the parts of a model that has a part per hospital; None where the model shall find it from the
            image, once for all windows (`route`).
        precision: of the blended logits, fp32 or fp16 (half the memory).
        mirroring: averages mirrored copies of each window; None does not.
        depths: for a head of sigmoids: per channel, background first, how many organs its organ lies in. A voxel is the
            deepest, then the likeliest, of the organs that have more than ½ there. None for a softmax: arg-max.
        certainty: counts how sure the labels are.

    Returns:
        uint8 `[D,H,W]`.

    Raises:
        LifelongCTError: image, roi, overlap or precision of the wrong form.
    """
    volume = torch.as_tensor(image)
    _check(volume, roi, overlap)
    where = torch.device(device) if device is not None else next(model.parameters()).device
    size: tuple[int, int, int] = tuple(int(r) for r in roi)  # type: ignore[assignment]

    def logits_of(x: Tensor) -> Tensor:
        with torch.autocast(where.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            return model(x).float()

    labels = torch.empty(tuple(volume.shape[1:]), dtype=torch.uint8)
    windows = Windows.over(tuple(labels.shape), size, overlap)
    blend = Blend(
        windows,
        partial(_decide, labels, depths=depths, certainty=certainty),
        precision=precision,
        relative=depths is None,
        weighted=certainty is not None,
        device=where,
    )
    with evaluating(model), ranked(model, volume, ranking):
        for first in range(0, len(windows.order), sw_batch):
            corners = windows.order[first : first + sw_batch]
            x = torch.stack([window_of(volume, windows, corner) for corner in corners]).to(where)
            answer = mirroring(logits_of, x) if mirroring else logits_of(x)
            for corner, logits in zip(corners, answer, strict=True):
                blend.add(corner, logits)
            del answer, logits  # else they are there while the next ones are made
    return labels.numpy()


def window_of(volume: Tensor, windows: Windows, corner: Corner) -> Tensor:
    """float32 `[C, *roi]` of a volume `[C,D,H,W]`; air beyond it."""
    seen = windows.seen(corner)
    part = volume[(slice(None), *seen)].float()
    if part.shape[1:] == windows.roi:
        return part
    whole = torch.full((len(volume), *windows.roi), PAD_HU)
    d, h, w = (slice(s.start - at, s.stop - at) for s, at in zip(seen, corner, strict=True))
    whole[:, d, h, w] = part
    return whole


def inference_bytes(
    shape: Sequence[int], roi: Sequence[int], overlap: float, precision: str, channels: int, width: int
) -> int:
    """Bytes of `predict_labels` in host memory beside image and model: what is blended, the labels, and a window as input
    and as logits. Activations are not in it.

    Args:
        shape: of the volume, voxels per axis.
        roi: window.
        overlap: of windows.
        precision: of the blended logits.
        channels: of the image.
        width: of the head.
    """
    (d, h, w), (x, y, z) = map(int, shape), map(int, roi)
    size = precision_of(precision).itemsize
    held = most_held((d, h, w), (x, y, z), float(overlap)) * width * size
    window = 4 * (channels + width) + (0 if size == 4 else size * width)
    return held + d * h * w + x * y * z * window


@contextmanager
def ranked(model: nn.Module, image: Tensor, ranking: Sequence[int] | None = None) -> Iterator[None]:
    """Meanwhile a model with a part per hospital answers for this case; another answers as always."""
    route = getattr(model, "route", None)
    if route is None:
        yield
        return
    with model.using(route(image) if ranking is None else ranking):  # type: ignore[operator]
        yield


def _decide(
    labels: Tensor,
    box: tuple[slice, slice, slice],
    sums: Tensor,
    weights: Tensor | None,
    *,
    depths: Sequence[int] | None,
    certainty: Certainty | None,
) -> None:
    """Labels of a part whose sums `[K,d,h,w]` are complete, plane by plane: an arg-max has 8 bytes per voxel."""
    for at, plane in enumerate(sums.unbind(1)):
        chosen = (
            plane.max(0).indices if depths is None else _deepest(plane, depths)
        )  # thrice as fast as argmax
        labels[box][at] = chosen
        if certainty is not None and weights is not None:
            certainty.add(plane / weights[at], chosen, depths is not None)


def _deepest(sums: Tensor, depths: Sequence[int]) -> Tensor:
    """Of the organs with a positive logit the one with the greatest depth, then with the greatest logit."""
    depth = torch.tensor(depths)[:, None, None]
    positive = sums > 0
    positive[0] = False
    deep = torch.where(positive, depth, -1)
    likely = torch.where(positive & (deep == deep.amax(0)), sums, 0)
    return torch.where(positive.any(0), likely.argmax(0), 0)


def _check(volume: Tensor, roi: Sequence[int], overlap: float) -> None:
    if volume.ndim != 4:
        raise LifelongCTError(
            f"the image has shape {tuple(volume.shape)}", "predict_labels", "give [C, D, H, W]"
        )
    if len(roi) != 3 or min(roi) < 1:
        raise LifelongCTError(
            f"the window {list(roi)} is not three voxel counts", "evaluation.roi", "write [D, H, W]"
        )
    if not 0 <= overlap < 1:
        raise LifelongCTError(
            f"an overlap of {overlap!r} is not in [0, 1)", "evaluation.overlap", "write 0.25 or so"
        )
