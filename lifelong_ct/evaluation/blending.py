"""The weighted sum of windows, held only where a later window may still add to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.data.utils import compute_importance_map
from torch import Tensor

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.windows import Box, Cell, Corner, Windows

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}
"""Of the sums."""
_HALF = 60_000.0
"""Below the largest number of half precision."""

Finish = Callable[[Box, Tensor, Tensor | None], None]
"""Told where a cell lies, its sums `[K,d,h,w]`, and the sum of the weights `[d,h,w]` where that was asked for."""


def precision_of(name: str) -> torch.dtype:
    """float32 or float16 by its name.

    Raises:
        LifelongCTError: another name.
    """
    if name not in PRECISIONS:
        what = f"the precision {name!r} is unknown"
        raise LifelongCTError(what, "evaluation.precision", "use fp32 or fp16")
    return PRECISIONS[name]


class Blend:
    """Sums windows with the Gaussian weights of MONAI's `sliding_window_inference(mode="gaussian")`.

    With `fp32` the numbers are those of MONAI but for the order in which windows are added. With `fp16` a voxel's logits
    are first taken relative to the highest of them in that window: that changes neither arg-max nor softmax, and leaves
    the precision to the channels that are close to it. What is so far below that the sum could overflow, thousands of
    logits, is cut off there.

    Args:
        windows: to come, in their order.
        finish: told each cell once it is complete; nothing of it is held afterwards.
        precision: fp32 or fp16.
        relative: whether logits may be taken relative to the highest; not for a sigmoid head.
        weighted: whether `finish` needs the sum of the weights.
        device: where windows are weighted; what is held lies in host memory.

    Attributes:
        held: voxels of the cells that are held now.
        most_held: at any time so far.
    """

    def __init__(
        self,
        windows: Windows,
        finish: Finish,
        *,
        precision: str = "fp32",
        relative: bool = True,
        weighted: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.windows, self.finish, self.weighted = windows, finish, weighted
        self.kind = precision_of(precision)
        self.relative = relative and self.kind == torch.float16
        self.floor = -_HALF / windows.most_over_a_voxel
        self.weights = compute_importance_map(windows.roi, mode="gaussian", sigma_scale=0.125, device=device)
        self._plain = self.weights.cpu()
        self.held = self.most_held = 0
        self._left = dict(windows.visits)
        self._cells: dict[Cell, tuple[Tensor, Tensor | None]] = {}

    def add(self, corner: Corner, logits: Tensor) -> None:
        """Adds the window at `corner`.

        Args:
            corner: its first voxel.
            logits: float32 `[K, *roi]`; they are overwritten.
        """
        if self.relative:
            logits -= logits.amax(0, keepdim=True)
        if self.kind == torch.float16:
            logits.clamp_(self.floor, -self.floor)
        logits *= self.weights
        logits = logits.to("cpu", self.kind)  # thrice as fast as adding single to half precision
        for cell, there, here in self.windows.shares(corner):
            sums, total = self._cells.get(cell) or self._new(cell, len(logits))
            sums[(slice(None), *there)] += logits[(slice(None), *here)]
            if total is not None:
                total[there] += self._plain[here]
            self._left[cell] -= 1
            if not self._left[cell]:
                self.held -= self.windows.voxels(cell)
                self.finish(self.windows.box(cell), *self._cells.pop(cell))

    def _new(self, cell: Cell, width: int) -> tuple[Tensor, Tensor | None]:
        size = [side.stop - side.start for side in self.windows.box(cell)]
        total = torch.zeros(size) if self.weighted else None
        self._cells[cell] = torch.zeros((width, *size), dtype=self.kind), total
        self.held += self.windows.voxels(cell)
        self.most_held = max(self.most_held, self.held)
        return self._cells[cell]
