"""Low resolution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.training.augmentation.separable import coarse, mapped
from lifelong_ct.training.augmentation.transform import Drawn, Transform, bounds, number, thick_axis


class LowResolution(Transform):
    """Fewer voxels, the nearest ones, then as many as before by linear interpolation; a share per channel, the same along
    all axes. An axis of slices more than three times as thick as the finest spacing is left alone.

    Args:
        p: probability.
        share: of the voxels per axis that are kept, lowest and highest, evenly between.
        p_channel: probability of each channel of a sample that is changed.
    """

    def __init__(self, p: float, share: Sequence[float], p_channel: float = 1.0) -> None:
        super().__init__(p)
        self.share, self.p_channel = bounds(share, "share", 0.01, 1), number(p_channel, "p_channel", 0, 1)
        self._thick: int | None = None

    def bind(
        self, space: LabelSpace, spacing: Sequence[float] | None, seen: Iterable[Sequence[str]] = ()
    ) -> None:
        self._thick = thick_axis(spacing)

    def parameters(self, rng: np.random.Generator, shape: Sequence[int]) -> Drawn | None:
        chosen = rng.random(shape[0]) < self.p_channel
        share = np.where(chosen, rng.uniform(*self.share, shape[0]), 1.0)
        return {"share": share} if chosen.any() else None

    def __call__(self, x: Tensor, y: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        share = drawn["share"]
        matrices = [
            np.stack([coarse(n, 1.0 if axis == self._thick else float(s)) for s in share.ravel()]).reshape(
                *share.shape, n, n
            )
            for axis, n in enumerate(x.shape[2:])
        ]
        return mapped(x, matrices), y
