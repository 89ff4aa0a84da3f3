"""Which patch comes next: a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator

Corner = tuple[int, int, int]


class Sampled(Protocol):
    """What is needed of a volume."""

    @property
    def digest(self) -> str:
        """Hash of its content."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels `(D, H, W)`."""

    @property
    def organs(self) -> tuple[str, ...]:
        """Annotated organs."""

    def positions(self, organ: str) -> npt.NDArray[np.integer]:
        """Voxels of an organ `[n, 3]`, a bounded sample."""


class PatchSampler:
    """Every volume once per epoch, in a new order each time, whatever their names and order of arrival.

    Args:
        volumes: to draw from; their content digests order them.
        patch: voxels per axis.
        batch_size: patches per step.
        seed_keys: key every draw.
        foreground: share of patches centred on a voxel of an annotated organ, all organs with equal right;
            the others lie anywhere.

    Raises:
        LifelongCTError: no volume, or a share outside [0, 1].
    """

    def __init__(
        self,
        volumes: Sequence[Sampled],
        patch: Sequence[int],
        batch_size: int,
        seed_keys: tuple[str | int, ...],
        foreground: float = 0.67,
    ) -> None:
        if not volumes:
            raise LifelongCTError("there is no volume to draw from", "training data", "add training cases")
        if not 0 <= foreground <= 1:
            raise LifelongCTError(f"foreground={foreground}", "data.foreground", "write a share in [0, 1]")
        self.volumes, self.patch, self.batch_size = volumes, tuple(patch), batch_size
        self.keys, self.foreground = seed_keys, foreground
        self._ranked = sorted(range(len(volumes)), key=lambda i: volumes[i].digest)

    def draw(self, step: int) -> list[tuple[int, Corner]]:
        """(index of the volume, start of the patch) per sample; a start is negative where the volume is
        smaller than the patch."""
        return [self._draw(step * self.batch_size + i) for i in range(self.batch_size)]

    def _draw(self, number: int) -> tuple[int, Corner]:
        epoch, turn = divmod(number, len(self.volumes))
        order = generator(*self.keys, "order", epoch).permutation(len(self.volumes))
        index = self._ranked[order[turn]]
        return index, self.corner(index, generator(*self.keys, "patch", number))

    def corner(self, index: int, rng: np.random.Generator) -> Corner:
        """A start within volume `index`."""
        volume = self.volumes[index]
        shown = [organ for organ in volume.organs if len(volume.positions(organ))]
        shape, patch = np.array(volume.shape), np.array(self.patch)
        if shown and rng.random() < self.foreground:
            positions = volume.positions(shown[rng.integers(len(shown))])
            centre = positions[rng.integers(len(positions))].astype(np.int64)
        else:
            centre = rng.integers(0, shape)
        room = shape - patch
        start = np.where(room >= 0, np.clip(centre - patch // 2, 0, np.maximum(room, 0)), room // 2)
        d, h, w = (int(s) for s in start)
        return d, h, w
