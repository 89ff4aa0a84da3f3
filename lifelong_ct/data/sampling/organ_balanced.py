"""Organs with equal right, whatever their size."""

from __future__ import annotations

import numpy as np

from lifelong_ct.data.sampling.policy import At, Centre, Sampled, anywhere, checked_share


class OrganBalanced:
    """A share of the patches is centred on an annotated organ that the case shows, each organ with the same
    probability and each of its positions too; the others lie anywhere. Small organs are seen as often as large
    ones.

    Args:
        foreground: the share.

    Raises:
        LifelongCTError: a share outside [0, 1].
    """

    def __init__(self, foreground: float = 0.67) -> None:
        self.foreground = checked_share(foreground)

    def centre(self, volume: Sampled, rng: np.random.Generator) -> Centre:
        """See `SamplingPolicy`."""
        shown = [organ for organ in volume.organs if volume.count(organ)]
        if shown and rng.random() < self.foreground:
            organ = shown[rng.integers(len(shown))]
            return At(organ, int(rng.integers(volume.count(organ))))
        return anywhere(volume, rng)
