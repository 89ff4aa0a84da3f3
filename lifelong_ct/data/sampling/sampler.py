"""Patch number → case and place: a pure function of the seed, the number and the content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.sampling.organ_balanced import OrganBalanced
from lifelong_ct.data.sampling.policy import Centre, Corner, Sampled, SamplingPolicy, corner, resolve
from lifelong_ct.data.sampling.schedules import Epochs, OnePass, Schedule


class Draw(NamedTuple):
    """One patch: the index of its volume, and its centre."""

    volume: int
    centre: Centre


class PatchSampler:
    """Draws patches, whatever the names of the volumes and their order of arrival.

    Args:
        volumes: to draw from; their content digests order them.
        patch: voxels per axis.
        batch_size: patches per step.
        seed_keys: key every draw.
        foreground: of the default policy, `OrganBalanced`.
        policy: chooses the place in a volume.
        schedule: chooses the volume; `Epochs` where None.

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
        policy: SamplingPolicy | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        if not volumes:
            raise LifelongCTError("there is no volume to draw from", "training data", "add training cases")
        self.volumes, self.patch, self.batch_size = volumes, tuple(patch), batch_size
        self.keys, self.policy = seed_keys, policy or OrganBalanced(foreground)
        self.schedule: Schedule = schedule or Epochs()
        self._ranked = sorted(range(len(volumes)), key=lambda i: volumes[i].digest)

    @property
    def patches(self) -> int | None:
        """How many patches there are; None without end."""
        return self.schedule.patches(len(self.volumes))

    def centres(self, step: int) -> list[Draw]:
        """What a step draws, without reading anything. The last step of one pass may have fewer.

        Raises:
            DataError: beyond the end of one pass.
        """
        first, end = step * self.batch_size, (step + 1) * self.batch_size
        if self.patches is not None:
            end = min(end, self.patches)
            if first >= end:
                raise DataError(
                    f"there is no batch {step}: one pass over {len(self.volumes)} cases has {self.patches} "
                    "patches, and every case is closed after its own",
                    "data.schedule=one_pass",
                    "set data.schedule=epochs, or use a strategy that needs no further patch (no patches "
                    "held out after training, no stock plugin that reads its dataset then)",
                    "closed",
                )
        return [self._draw(number) for number in range(first, end)]

    def draw(self, step: int) -> list[tuple[int, Corner]]:
        """(index of the volume, start of the patch) per sample; a start is negative where the volume is
        smaller than the patch."""
        return [(index, self._start(index, centre)) for index, centre in self.centres(step)]

    def corner(self, index: int, rng: np.random.Generator) -> Corner:
        """A start within volume `index`."""
        return self._start(index, self.policy.centre(self.volumes[index], rng))

    def finished(self, start: int, stop: int) -> list[int]:
        """Indices of the volumes that the steps `start` … `stop - 1` draw for the last time: of one pass only."""
        if not isinstance(self.schedule, OnePass):
            return []
        first, end = start * self.batch_size, stop * self.batch_size
        ranks = self.schedule.finished(first, end, len(self.volumes), self.keys)
        return [self._ranked[rank] for rank in ranks]

    def _draw(self, number: int) -> Draw:
        index = self._ranked[self.schedule.rank(number, len(self.volumes), self.keys)]
        return Draw(index, self.policy.centre(self.volumes[index], generator(*self.keys, "patch", number)))

    def _start(self, index: int, centre: Centre) -> Corner:
        volume = self.volumes[index]
        return corner(volume.shape, self.patch, resolve(volume, centre))
