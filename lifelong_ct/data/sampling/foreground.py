"""Annotated voxels with equal right."""

from __future__ import annotations

import numpy as np

from lifelong_ct.data.sampling.policy import At, Centre, Sampled, anywhere, checked_share


class Foreground:
    """A share of the patches is centred on an annotated voxel, each with the same probability, so that an organ
    comes in proportion to its size; the others lie anywhere. This is the 1:1 of `RandCropByPosNegLabel` at
    `foreground=0.5`, but that the others may touch organs too.

    A volume keeps a bounded sample of positions per organ: the organ is drawn by its number of voxels, then one of
    its positions. Where organs overlap, sets of voxels that share none take the place of the organs.

    Args:
        foreground: the share.

    Raises:
        LifelongCTError: a share outside [0, 1].
    """

    def __init__(self, foreground: float = 0.67) -> None:
        self.foreground = checked_share(foreground)

    def centre(self, volume: Sampled, rng: np.random.Generator) -> Centre:
        """See `SamplingPolicy`."""
        groups = list(volume.voxels)
        ends = np.cumsum([volume.voxels[group] for group in groups])
        if len(ends) and ends[-1] and rng.random() < self.foreground:
            group = groups[int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))]
            return At(group, int(rng.integers(volume.count(group))))
        return anywhere(volume, rng)
