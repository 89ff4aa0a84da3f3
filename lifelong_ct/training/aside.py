"""Patches of the present experience that no training step draws: methods look at them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lifelong_ct.core.protocols import Batch, PatchSource
from lifelong_ct.models.routing import tiles

_ASIDE = 1 << 40
"""First step number of patches that no training step draws."""


class Aside:
    """What a learner shows of its hospital besides the batches that it trains on.

    Attributes:
        source: where patches come from.
        device: where they go.
    """

    source: PatchSource | None
    device: torch.device

    def held_out_patches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`count` single patches of the present experience that no training step draws.

        Raises:
            DataError: after one pass (`data.schedule=one_pass`), whose cases are closed: there are none.
        """
        for batch in self.held_out_batches(count):
            yield batch.x[:1].to(self.device), batch.y[:1].to(self.device)

    def held_out_batches(self, count: int) -> Iterator[Batch]:
        """The batches whose first patches those are, with where they come from."""
        assert self.source is not None
        for i in range(count):
            yield self.source.batch(_ASIDE + i)

    def whole_cases(self, most: int) -> Iterator[Tensor]:
        """Tiles int16 `[1,C,d,h,w]` that cover up to `most` training cases of the present experience; patches, where the
        source has no volumes."""
        volumes = getattr(self.source, "volumes", None)
        if volumes is None:
            yield from (x for x, _ in self.held_out_patches(most))
            return
        for volume in volumes[:: max(1, len(volumes) // most)][:most]:
            for box in tiles(volume.shape):
                start, size = zip(*((s.start, s.stop - s.start) for s in box), strict=True)
                yield torch.from_numpy(volume.read(start, size)[0])[None].to(self.device)
