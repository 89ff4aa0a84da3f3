"""Old models complete what a case did not annotate; what was annotated stays."""

from __future__ import annotations

import torch
from torch import Tensor

from lifelong_ct.data.labels import LabelSpace


class Completion:
    """Writes a model's word into the codes of `y`, by the rules of `LabelSpace.completed`.

    Args:
        space: of the codes; it may grow.
    """

    def __init__(self, space: LabelSpace) -> None:
        self.space = space
        self._table: Tensor | None = None
        self._key: tuple[int, int, int, torch.device] | None = None

    def __call__(self, y: Tensor, told: Tensor, sure: Tensor, width: int) -> Tensor:
        """Codes after a model has told.

        Args:
            y: codes `[B,1,D,H,W]`.
            told: channel that the model tells, int64 `[B,D,H,W]`.
            sure: bool `[B,D,H,W]`, where it counts.
            width: channels of the model.

        Returns:
            Codes like `y`; wider where the ids run out.
        """
        table = self.table(width, y.device)
        old = y[:, 0].long()
        new = torch.where(sure, table[old, told], old)[:, None]
        narrow = y.dtype == torch.uint8 and len(table) <= 256
        return new.to(torch.uint8 if narrow else torch.uint16)

    def open(self, y: Tensor) -> Tensor:
        """Where a voxel's organ is not certain, padding left out: bool `[B,D,H,W]`."""
        return self.open_codes(y.device)[y[:, 0].long()]

    def open_codes(self, device: torch.device) -> Tensor:
        """Codes of protocols, bool `[codes]`."""
        codes = torch.arange(len(self.space.candidates()), device=device)
        literal = torch.from_numpy(self.space.literal()).to(device)
        return (literal >= 0) & (codes != literal)

    def table(self, width: int, device: torch.device) -> Tensor:
        """`LabelSpace.completed` on a device."""
        key = (width, self.space.width, len(self.space.protocols), device)
        if self._table is None or self._key != key:
            self._table = torch.from_numpy(self.space.completed(width)).to(device)
            self._key = (width, self.space.width, len(self.space.protocols), device)  # it appends protocols
        return self._table
