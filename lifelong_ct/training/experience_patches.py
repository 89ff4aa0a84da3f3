"""The dataset of an experience."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset

from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.loader import PatchDataset
from lifelong_ct.data.volume import StoredVolume


class ExperiencePatches(Dataset[Any]):
    """What a stock plugin sees of an experience: item i is a patch of its i-th case, opened when asked for. Where
    cases were left out once they were read, the first ones come again.

    Args:
        count: number of cases.
        volumes: opens them.
        label_space: codes the labels.
        patch: voxels per axis.
        seed_keys: choose the patches.
    """

    def __init__(
        self,
        count: int,
        volumes: Callable[[], list[StoredVolume]],
        label_space: LabelSpace,
        patch: tuple[int, int, int],
        seed_keys: tuple[str | int, ...],
    ) -> None:
        self._count, self._volumes = count, volumes
        self._make = lambda opened: PatchDataset(opened, label_space, patch, seed_keys)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if not 0 <= index < self._count:
            raise IndexError(index)
        opened = self._volumes()
        return self._make(opened)[index % len(opened)]
