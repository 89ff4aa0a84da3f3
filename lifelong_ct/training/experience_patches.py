"""The dataset of an experience."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        patient: keyed hash of the i-th open volume's patient; None where nobody needs to know.

    Attributes:
        patients: of each item, told when asked for; see `attributed`.
    """

    def __init__(
        self,
        count: int,
        volumes: Callable[[], list[StoredVolume]],
        label_space: LabelSpace,
        patch: tuple[int, int, int],
        seed_keys: tuple[str | int, ...],
        patient: Callable[[int], str] | None = None,
    ) -> None:
        self._count, self._volumes = count, volumes
        self.patients = None if patient is None else _Patients(self, patient)
        self._make = lambda opened: PatchDataset(opened, label_space, patch, seed_keys)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if not 0 <= index < self._count:
            raise IndexError(index)
        opened = self.opened()
        return self._make(opened)[index % len(opened)]

    def opened(self) -> list[StoredVolume]:
        """The volumes, opened when somebody asks."""
        return self._volumes()


class _Patients(Sequence[str]):
    """Of items of a dataset, in the order of its items."""

    def __init__(self, patches: ExperiencePatches, patient: Callable[[int], str]) -> None:
        self._patches, self._patient = patches, patient

    def __len__(self) -> int:
        return len(self._patches)

    def __getitem__(self, index: Any) -> Any:
        return self._patient(index % len(self._patches.opened()))
