"""A shared encoder with a decoder per experience."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lifelong_ct.models.merging import merge
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.models.swapped import SwappedModel


class DecodersModel(SwappedModel):
    """In evaluation mode all decoders answer and `merging.merge` decides, window by window; there is no router. The
    encoder runs once per decoder: where a network's decoder begins is known by its parameters, not by its code.

    Args:
        network, owned: see `SwappedModel`; all but the encoder.
        within: channel of an organ → channels of the organs that contain it.
    """

    kind = "decoders"

    def __init__(
        self, network: SegmentationModel, owned: Sequence[str], within: Mapping[Any, Sequence[int]]
    ) -> None:
        super().__init__(network, owned, routes=False)
        self.within = {int(channel): [int(c) for c in outer] for channel, outer in within.items()}

    def merged(self, x: Tensor) -> Tensor:
        knowing = [(p, each.channels) for p, each in enumerate(self.learnt) if len(each.channels) > 1]
        if len(knowing) < 2:
            part, channels = knowing[0] if knowing else (0, self.learnt[0].channels)
            return self._spread(self.answer(part, x), channels)
        return merge(((self.answer(p, x), own) for p, own in knowing), self.width, self.within)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "within": {str(c): list(o) for c, o in self.within.items()}}

    def restore(self, structure: dict[str, Any]) -> None:
        super().restore(structure)
        self.within = {int(c): list(o) for c, o in structure["options"]["within"].items()}
