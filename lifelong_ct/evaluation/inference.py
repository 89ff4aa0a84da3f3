"""From a stored volume to a label map: sliding windows with Gaussian blending."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError

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
) -> npt.NDArray[np.uint8]:
    """Arg-max channel ids of one volume.

    The device holds `sw_batch` windows at a time; blended logits, float32 `[K+1,D,H,W]`, stand in host
    memory until the arg-max is taken plane by plane.

    Args:
        model: HU `[B,C,D,H,W]` → logits `[B,K+1,D,H,W]`, already on `device`.
        image: int16 HU `[C,D,H,W]`; padded with air where it is smaller than `roi`.
        roi: window, voxels per axis.
        overlap: share of a window that neighbours have in common, in [0, 1).
        device: where the windows are computed; that of the model's parameters where None.
        amp_dtype: autocast to it, for example `torch.bfloat16`; None computes in the model's own type.
        sw_batch: windows per forward pass.
        ranking: of the parts of a model that has a part per hospital; None where the model shall find it from the
            image, once for all windows (`route`).

    Returns:
        uint8 `[D,H,W]`.

    Raises:
        LifelongCTError: image, roi or overlap of the wrong form.
    """
    volume = torch.as_tensor(image)
    _check(volume, roi, overlap)
    where = torch.device(device) if device is not None else next(model.parameters()).device

    def window_logits(x: Tensor) -> Tensor:
        with torch.autocast(where.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            return model(x).float()

    with evaluating(model), ranked(model, volume, ranking):
        logits = sliding_window_inference(
            volume[None].float(),
            roi_size=tuple(int(r) for r in roi),
            sw_batch_size=sw_batch,
            predictor=window_logits,
            overlap=overlap,
            mode="gaussian",
            padding_mode="constant",
            cval=PAD_HU,
            sw_device=where,
            device="cpu",
        )
        assert isinstance(logits, Tensor)
        return _argmax(logits[0])


@contextmanager
def ranked(model: nn.Module, image: Tensor, ranking: Sequence[int] | None = None) -> Iterator[None]:
    """Meanwhile a model with a part per hospital answers for this case; another answers as always."""
    route = getattr(model, "route", None)
    if route is None:
        yield
        return
    with model.using(route(image) if ranking is None else ranking):  # type: ignore[operator]
        yield


def _argmax(logits: Tensor) -> npt.NDArray[np.uint8]:
    """`[K+1,D,H,W]` → uint8 `[D,H,W]`; plane by plane, because an arg-max has 8 bytes per voxel."""
    labels = np.empty(tuple(logits.shape[1:]), dtype=np.uint8)
    for d in range(labels.shape[0]):
        labels[d] = logits[:, d].argmax(dim=0).numpy()
    return labels


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
