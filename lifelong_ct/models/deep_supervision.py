"""Heads at coarser levels of the decoder, while the network is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.models.segmentation import GrowingHead, SegmentationModel


class DeeplySupervisedModel(SegmentationModel):
    """A segmentation model whose decoder says at coarser levels too what it sees, in training mode.

    Lee et al., "Deeply-Supervised Nets", AISTATS 2015 (arXiv 1409.5185); weights and resolutions as in nnU-Net (Isensee et
    al., Nature Methods 2021): the loss of each level against labels that are as coarse, the level of half the resolution
    with half the weight, and so on, weights that sum to 1 (`training.supervision`). What the model returns is the answer at
    full resolution, as without: strategies see nothing else, and in evaluation mode nothing else is computed.

    Args:
        backbone, features, window: see `SegmentationModel`.
        levels: names of modules of the backbone → their output channels, fine before coarse.

    Attributes:
        coarse: per forward pass in training mode since it was last emptied, the logits of each level, `[B,width,d,h,w]`.

    Raises:
        LifelongCTError: the backbone has no such module, or none is named.
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        levels: Mapping[str, int],
        window: Sequence[float] = (-175.0, 250.0),
    ) -> None:
        super().__init__(backbone, features, window)
        there = dict(backbone.named_modules())
        missing = [name for name in levels if name not in there]
        if missing or not levels:
            raise LifelongCTError(
                f"the backbone has no module {', '.join(missing)}" if missing else "no level is named",
                "model.levels",
                f"name modules of the decoder, such as {', '.join(list(there)[-3:])}",
            )
        self.levels = nn.ModuleList(GrowingHead(channels) for channels in levels.values())
        self.coarse: list[list[Tensor]] = []
        self._catches = [_Catch() for _ in levels]
        for name, catch in zip(levels, self._catches, strict=True):
            there[name].register_forward_hook(catch)

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins without logits, which belong to a graph."""
        return {**super().__getstate__(), "coarse": []}

    def grow(self, width: int) -> bool:
        """Gives every head `width` channels. True if they grew."""
        for head in self.levels:
            head.grow(width)  # type: ignore[operator]
        return super().grow(width)

    def forward(self, x: Tensor) -> Tensor:
        """int16 or float `[B,C,D,H,W]`, HU for CT → logits `[B,width,D,H,W]`."""
        logits = super().forward(x)
        found = [catch.take() for catch in self._catches]
        if self.training:
            self.coarse.append([head(features) for head, features in zip(self.levels, found, strict=True)])
        return logits


class _Catch:
    """A forward hook that keeps the last output. An object, so that a copy of the model has a copy of it."""

    def __init__(self) -> None:
        self._output: Tensor | None = None

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self._output = output

    def take(self) -> Tensor:
        """The output, which is then let go."""
        output, self._output = self._output, None
        assert output is not None
        return output
