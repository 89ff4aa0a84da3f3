"""Transforms one after another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.training.augmentation.transform import Drawn, Transform, bounds


class Chain:
    """The batch at once, each sample by parameters of its own: those of sample i depend on the seed and on i only, not on
    the device or on how many samples there are.

    Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
    Methods 2021, doi:10.1038/s41592-020-01008-z. As there, voxels are clipped to the window first, so that what scales
    with their range (contrast, gamma) does not hang on a metal implant.

    Args:
        transforms: by name, in order; None for one that is left out.
        window: HU that voxels are clipped to; that of the model. None leaves them.

    Raises:
        LifelongCTError: a window without extent, or something that is no transform.
    """

    def __init__(
        self, transforms: Mapping[str, Transform | None], window: Sequence[float] | None = None
    ) -> None:
        self.window = None if window is None else bounds(window, "window", -32768, 32767)
        self.transforms = {name: step for name, step in transforms.items() if step is not None}
        for name, step in self.transforms.items():
            if not isinstance(step, Transform):
                raise LifelongCTError(
                    f"{type(step).__name__} is no transform",
                    f"trainer.augment.transforms.{name}",
                    "give a _target_ of lifelong_ct.training.augmentation, or null",
                )

    def bind(
        self, space: LabelSpace, spacing: Sequence[float] | None, seen: Iterable[Sequence[str]] = ()
    ) -> None:
        """See `Transform.bind`."""
        seen = list(seen)
        for step in self.transforms.values():
            step.bind(space, spacing, seen)

    def __call__(self, x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """int16 HU `[B,C,D,H,W]` and codes `[B,1,D,H,W]` → float32 HU and codes."""
        return self.apply(x, y, [self.draw(seed, i, x.shape[1:]) for i in range(len(x))])

    def draw(self, seed: int, sample: int, shape: Sequence[int]) -> dict[str, Drawn | None]:
        """Parameters of each transform for a sample `[C,D,H,W]`."""
        rng = generator("augment", seed, sample)
        return {name: step.draw(rng, shape) for name, step in self.transforms.items()}

    def apply(
        self, x: Tensor, y: Tensor, drawn: Sequence[Mapping[str, Drawn | None]]
    ) -> tuple[Tensor, Tensor]:
        """The batch with the parameters of each of its samples."""
        x = x.float()
        if self.window is not None:
            x = x.clamp(*self.window)
        for name, step in self.transforms.items():
            rows = [i for i, of in enumerate(drawn) if of[name] is not None]
            if rows:
                x, y = _some(step, x, y, rows, _stacked([drawn[i][name] for i in rows]))
        return x, y


def _some(step: Transform, x: Tensor, y: Tensor, rows: list[int], drawn: Drawn) -> tuple[Tensor, Tensor]:
    if len(rows) == len(x):
        return step(x, y, drawn)
    own_y = _of(y, rows)
    new_x, new_y = step(_of(x, rows), own_y, drawn)
    return _with(x, rows, new_x), y if new_y is own_y else _with(y, rows, new_y)


def _of(batch: Tensor, rows: list[int]) -> Tensor:
    return torch.stack([batch[i] for i in rows])


def _with(batch: Tensor, rows: list[int], new: Tensor) -> Tensor:
    """Numbers of rows stay on the CPU: an index on the device would have to be copied there."""
    at = {row: i for i, row in enumerate(rows)}
    return torch.stack([new[at[i]] if i in at else batch[i].to(new.dtype) for i in range(len(batch))])


def _stacked(drawn: Sequence[Drawn | None]) -> dict[str, np.ndarray]:
    first = drawn[0]
    assert first is not None
    return {key: np.stack([of[key] for of in drawn if of is not None]) for key in first}
