"""What a sampling policy is, and what it may know of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import LifelongCTError

Corner = tuple[int, int, int]


class At(NamedTuple):
    """Position `number` of a group of voxels. A policy names it by its number; whoever reads the volume
    looks it up, so that drawing reads nothing."""

    group: str
    number: int


Centre = At | Corner


class Sampled(Protocol):
    """What is needed of a volume; a `StoredVolume` has it."""

    @property
    def digest(self) -> str:
        """Hash of its content."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels `(D, H, W)`."""

    @property
    def organs(self) -> tuple[str, ...]:
        """Annotated organs."""

    @property
    def voxels(self) -> Mapping[str, int]:
        """Group → number of its voxels, of groups that share no voxel and together are all that is annotated."""

    def count(self, group: str) -> int:
        """How many positions there are of a group, a bounded sample of its voxels. Every organ is a group."""

    def positions(self, group: str) -> npt.NDArray[np.integer]:
        """The positions of a group `[n, 3]`."""


class SamplingPolicy(Protocol):
    """Chooses the centre of a patch."""

    def centre(self, volume: Sampled, rng: np.random.Generator) -> Centre:
        """A voxel of the volume, or a position by its number.

        A pure function of its arguments: no other source of randomness, nothing kept between calls, so that a
        draw depends on seed, number and content alone. It is called in the training process; `volume.positions`
        reads the disk there, `At` does not.
        """
        ...


def anywhere(volume: Sampled, rng: np.random.Generator) -> Corner:
    """Every voxel with equal right."""
    d, h, w = (int(i) for i in rng.integers(0, np.array(volume.shape)))
    return d, h, w


def resolve(volume: Sampled, centre: Centre) -> Corner:
    """The voxel that a policy chose."""
    if isinstance(centre, At):
        d, h, w = (int(i) for i in volume.positions(centre.group)[centre.number])
        return d, h, w
    return centre


def corner(shape: Sequence[int], patch: Sequence[int], centre: Corner) -> Corner:
    """First voxel of the patch around a centre: inside the volume, or around its middle along an axis that is
    shorter than the patch; negative then."""
    starts = (
        min(max(c - p // 2, 0), n - p) if n >= p else (n - p) // 2
        for n, p, c in zip(shape, patch, centre, strict=True)
    )
    d, h, w = starts
    return d, h, w


def checked_share(foreground: float) -> float:
    """A share of foreground patches.

    Raises:
        LifelongCTError: outside [0, 1].
    """
    if isinstance(foreground, bool) or not isinstance(foreground, (int, float)) or not 0 <= foreground <= 1:
        raise LifelongCTError(f"foreground={foreground!r}", "data.foreground", "write a share in [0, 1]")
    return foreground
