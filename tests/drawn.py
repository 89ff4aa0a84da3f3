"""Volumes that are only described, and counts of what is drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lifelong_ct.data.sampling import PatchSampler


class Described:
    """A volume with the given positions per organ, `{organ: rows}`.

    Args:
        digest: of its content.
        shape: voxels per axis.
        voxels: true number per group; as many as there are positions where None.
    """

    def __init__(
        self,
        digest: str = "a",
        shape: Sequence[int] = (100, 100, 100),
        voxels: dict[str, int] | None = None,
        **organs: Sequence[Sequence[int]],
    ) -> None:
        self.digest, self.shape, self.organs = digest, tuple(shape), tuple(organs)
        self._positions = {name: np.array(rows, np.uint16).reshape(-1, 3) for name, rows in organs.items()}
        given = {name: len(rows) for name, rows in self._positions.items()}
        self.voxels = given if voxels is None else voxels

    def count(self, group: str) -> int:
        return len(self._positions[group])

    def positions(self, group: str) -> np.ndarray:
        return self._positions[group]


def sampler(
    volumes: Sequence[Any],
    patch: Sequence[int] = (10, 10, 10),
    batch_size: int = 1,
    keys: tuple[str | int, ...] = (0, "patches"),
    foreground: float = 0.67,
    **more: Any,
) -> PatchSampler:
    return PatchSampler(volumes, patch, batch_size, keys, foreground, **more)


def drawn(made: PatchSampler, steps: int) -> list[tuple[int, tuple[int, int, int]]]:
    """(index, start) of every patch of the first steps."""
    return [pair for step in range(steps) for pair in made.draw(step)]


def sigmas(count: float, n: int, share: float) -> float:
    """Distance of a count from its expectation, in binomial standard deviations."""
    return float(abs(count - n * share) / np.sqrt(n * share * (1 - share)))
