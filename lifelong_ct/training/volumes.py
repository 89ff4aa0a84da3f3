"""The volumes of a run: ingested when a hospital arrives, evicted when the disk limit needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lifelong_ct.core.errors import LimitExceeded
from lifelong_ct.core.types import Case
from lifelong_ct.data.ingest import ingest, source_key
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.loader import PatchDataset
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import StoredVolume
from lifelong_ct.streams.domain_incremental import DomainIncremental
from lifelong_ct.streams.hospital import Hospital

Progress = Callable[[str, int, int], None]


class Volumes:
    """Opens the cases of a stream.

    Args:
        stream: its hospitals.
        store: where preprocessed volumes are.
        keep_all: nothing is evicted.
        progress: told `(text, done, total)`.
    """

    def __init__(
        self, stream: DomainIncremental, store: VolumeStore, keep_all: bool, progress: Progress
    ) -> None:
        self.stream, self.store, self.keep_all, self.progress = stream, store, keep_all, progress
        self._train: dict[str, list[str]] = {}
        self._test: dict[str, list[str]] = {}
        self._names: list[str] = []
        self._open: list[StoredVolume] = []

    def train(self, hospitals: Sequence[Hospital]) -> list[StoredVolume]:
        """Training volumes of the hospitals, on the stream's spacing. Those of earlier ones are closed:
        what stays of a past hospital in memory is the keys of its volumes.

        Raises:
            DataError: a case cannot be used.
            LimitExceeded: they do not fit, whatever is evicted.
        """
        names = [hospital.name for hospital in hospitals]
        if names != self._names:
            for volume in self._open:
                self.store.cache.drop(volume.key)
            self._names, self._open = [], []
            for hospital in hospitals:
                volumes = self._ingest(hospital, hospital.train, self.stream.spacing, names)
                self._train[hospital.name] = [volume.key for volume in volumes]
                self._open += volumes
            self._names = names
        return self._open

    def native(self, hospital: Hospital, case: Case) -> RawCase:
        """A test case on its own grid, from the store where it fits, else from its source."""
        if hospital.name not in self._test:
            try:
                volumes = self._ingest(hospital, hospital.test, None, [*self._names, hospital.name])
            except LimitExceeded:
                for part in hospital.test:
                    self.store.evict(source_key(part, None))
                volumes = []
            self._test[hospital.name] = [volume.key for volume in volumes]
        keys = self._test[hospital.name]
        if not keys:
            return hospital.layout.load(case)
        stored = self.store.get(keys[hospital.test.index(case)])
        image, label = stored.read((0, 0, 0), stored.shape)
        self.store.cache.drop(stored.key)  # read once per evaluation: not worth the memory between
        return RawCase(np.asarray(image), label, stored.affine, stored.organs, stored.overlaps, stored.scales)

    def _ingest(
        self, hospital: Hospital, cases: Sequence[Case], spacing: Any, wanted: Sequence[str]
    ) -> list[StoredVolume]:
        def on_case(done: int, total: int) -> None:
            self.progress(f"reading {hospital.name}", done, total)

        while True:
            try:
                return ingest(hospital.layout, list(cases), self.store, spacing, on_case=on_case)
            except LimitExceeded:
                if not self._evict(wanted):
                    raise

    def _evict(self, wanted: Sequence[str]) -> bool:
        """Makes room: test volumes first, they can be read again; then the oldest past hospital."""
        for held in (self._test, {} if self.keep_all else self._train):
            for name in held:
                if name not in wanted and held[name]:
                    for key in held.pop(name):
                        self.store.evict(key)
                    return True
        return False


class ExperiencePatches(Dataset[Any]):
    """What a stock plugin sees of an experience: item i is a patch of its i-th case, opened when asked for.

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
        return self._make(self._volumes())[index]
