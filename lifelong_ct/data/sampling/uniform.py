"""Every place with equal right."""

from __future__ import annotations

import numpy as np

from lifelong_ct.data.sampling.policy import Centre, Sampled, anywhere


class Uniform:
    """Patches are centred on any voxel of the volume; what is annotated plays no part. A patch stays inside, so
    those at the border come more often than others."""

    def centre(self, volume: Sampled, rng: np.random.Generator) -> Centre:
        """See `SamplingPolicy`."""
        return anywhere(volume, rng)
