"""The volumes of a run: ingested when a hospital arrives, evicted when the disk limit needs it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.paths import exists
from lifelong_ct.core.types import Case
from lifelong_ct.data.admission import need
from lifelong_ct.data.ingest import Ingest
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import StoredVolume
from lifelong_ct.streams.base import Stream
from lifelong_ct.streams.hospital import Hospital

Progress = Callable[[str, int, int], None]
Held = dict[str, dict[str, str]]
"""Hospital, or part of it → case → key of its volume."""


class Volumes:
    """Opens the cases of a stream.

    Args:
        stream: its hospitals.
        store: where preprocessed volumes are.
        keep_all: nothing is evicted.
        progress: told `(text, done, total)`.
        workers: threads that ingest.
        name: of a case, for notes.

    Attributes:
        cases: of the volumes that `train` opened last, in their order.
        spacing: mm per axis that training volumes are brought to, None for each scan's own. A run sets it where
            the stream leaves it open.
    """

    def __init__(
        self,
        stream: Stream,
        store: VolumeStore,
        keep_all: bool,
        progress: Progress,
        *,
        workers: int = 1,
        name: Callable[[Case], str] = lambda case: case.id,
    ) -> None:
        self.stream, self.store, self.keep_all, self.progress = stream, store, keep_all, progress
        self.workers, self.name = workers, name
        self.spacing: Sequence[float] | None = None if isinstance(stream.spacing, str) else stream.spacing
        self.cases: list[Case] = []
        self._train: Held = {}
        self._test: Held = {}
        self._names: list[str] = []
        self._open: list[StoredVolume] = []
        self._private: dict[str, Hospital] = {}
        self._notes: queue.SimpleQueue[str] = queue.SimpleQueue()

    def train(self, hospitals: Sequence[Hospital]) -> list[StoredVolume]:
        """Training volumes of the hospitals, on the spacing. Those of earlier ones are closed: what stays of a
        past hospital in memory is the keys of its volumes.

        Raises:
            DataError: a case cannot be used.
            LimitExceeded: they do not fit, whatever is evicted.
        """
        names = [hospital.key for hospital in hospitals]
        self._private |= {hospital.key: hospital for hospital in hospitals if hospital.private}
        if names != self._names:
            for volume in self._open:
                self.store.cache.drop(volume.key)
            self._names, self._open, self.cases = [], [], []
            opened: list[tuple[Case, StoredVolume]] = []
            room = partial(self._room, names, True)
            for hospital in hospitals:
                with self.store.cache_lent():
                    volumes = self._ingest(hospital, self.spacing, room).every(hospital.train)
                self._train[hospital.key] = _keys(hospital.train, volumes)
                found = zip(hospital.train, volumes, strict=True)
                opened += [(case, volume) for case, volume in found if _shows(volume, hospital.shown)]
            if not opened:
                raise DataError(
                    "no training case has a voxel of what it should teach",
                    f"hospitals {', '.join(names)}",
                    "give the experience cases that show its organs",
                    "empty-label",
                )
            self._names, self._open = names, [volume for _, volume in opened]
            self.cases = [case for case, _ in opened]
        return self._open

    def native(self, hospital: Hospital, case: Case) -> RawCase:
        """A test case on its own grid, from the store where it fits, else from its source. Test cases of a hospital that
        does not share patches are in no store.

        Raises:
            DataError: a test case cannot be used.
            LimitExceeded: it needs more memory than there is.
        """
        self.open_tests([hospital])
        key = None if hospital.private else self._test[hospital.name].get(case.id)
        if key is None:
            with self.store.admission.room(need(hospital.layout, case, None), 0, self.name(case)):
                return hospital.layout.load(case)
        stored = self._ingest(hospital, None, lambda taken: False, cached=False).reopen(case, key)
        image, label = stored.read((0, 0, 0), stored.shape)
        return RawCase(np.asarray(image), label, stored.affine, stored.organs, stored.overlaps, stored.scales)

    def open_tests(self, hospitals: Iterable[Hospital]) -> None:
        """Puts test cases into the store, as far as they fit: `native` need not while training reads."""
        for hospital in hospitals:
            if hospital.name not in self._test and not hospital.private:
                self._test[hospital.name] = self._window(hospital)

    def leave(self, hospitals: Iterable[Hospital]) -> None:
        """Once they are learnt: of those that do not share patches the store keeps nothing, also of what somebody else
        put there on this run's spacing or on each scan's own. What another hospital has as well stays."""
        for hospital in hospitals:
            if not hospital.private:
                continue
            self._private.pop(hospital.key, None)
            own = set(self._train.pop(hospital.key, {}).values()) | self._every(hospital)
            if hospital.key in self._names:
                for volume in self._open:
                    volume.close()
                self._names, self._open, self.cases = [], [], []
            self.store.evict(*(own - self._kept()))
            left = sum(map(self.store.has, own - self._kept()))
            if left:
                self._notes.put(
                    f"{hospital.name}: {left} of its volumes stay until another run is done with them"
                )

    def close(self) -> None:
        """Ends in the middle of an experience: likewise."""
        self.leave(list(self._private.values()))

    def check_sources(self, train: Iterable[Hospital]) -> None:
        """Looks whether every file is there that the run will read: of the training cases of these hospitals, and of
        all test cases.

        Raises:
            DataError: the first file that is gone.
        """
        cases = [(h, case) for h in train for case in h.train]
        cases += [(h, case) for h in self.stream.scored for case in h.test]
        for hospital, case in cases:
            for path in case.files:
                if not exists(path):
                    raise DataError(
                        "a source that the run will need is gone",
                        f"hospital {hospital.name}, case {self.name(case)}, {path}",
                        "bring it back, or take the case out of the hospital",
                        "missing",
                    )

    def told(self) -> Iterator[str]:
        """What a user should know since this was asked last: sources that changed, volumes that were mended."""
        while not self._notes.empty():
            yield self._notes.get()

    def _window(self, hospital: Hospital) -> dict[str, str]:
        """Test cases → keys, of those that fit while no other test case leaves: windows that push each other out
        would be written anew at every evaluation."""
        room = partial(self._room, self._names, False)
        with self.store.cache_lent():
            return _keys(hospital.test, self._ingest(hospital, None, room).what_fits(hospital.test))

    def _ingest(
        self,
        hospital: Hospital,
        spacing: Sequence[float] | None,
        room: Callable[[Collection[str]], bool],
        cached: bool = True,
    ) -> Ingest:
        def on_case(done: int, total: int) -> None:
            self.progress(f"reading {hospital.name}", done, total)

        return Ingest(
            hospital.layout,
            self.store,
            spacing,
            on_case,
            workers=self.workers,
            name=self.name,
            note=self._notes.put,
            make_room=room,
            cached=cached,
            apart=hospital.private,
        )

    def _room(self, wanted: Sequence[str], windows: bool, taken: Collection[str]) -> bool:
        """Gives the volumes of a hospital up: test volumes first where they may leave, they can be read again; then
        those of the oldest past hospital. What another hospital has as well stays."""
        past = [] if self.keep_all else [name for name in self._train if name not in wanted]
        if windows and self._test:
            keys = set(self._test.pop(next(iter(self._test))).values())
        elif past:
            keys = set(self._train.pop(past[0]).values())
        else:
            return False
        self.store.evict(*(keys - self._kept() - set(taken)))
        return True

    def _kept(self) -> set[str]:
        return {key for part in (self._train, self._test) for own in part.values() for key in own.values()}

    def _every(self, hospital: Hospital) -> set[str]:
        """Keys of a hospital's volumes that may be in the store, whoever put them there."""
        keys = set()
        for spacing in (self.spacing, None):
            ingest = self._ingest(hospital, spacing, lambda taken: False)
            for case in (*hospital.train, *hospital.test):
                with suppress(DataError):  # its source is gone, or cannot be read
                    keys.add(ingest.key(case))
        return keys


def _keys(cases: Sequence[Case], volumes: Sequence[StoredVolume | None]) -> dict[str, str]:
    found = zip(cases, volumes, strict=True)
    return {case.id: volume.key for case, volume in found if volume is not None}


def _shows(volume: StoredVolume, organs: Sequence[str]) -> bool:
    """Whether there is a voxel of one of the organs, where there should be one."""
    return not organs or any(volume.count(organ) for organ in volume.organs if organ in organs)
