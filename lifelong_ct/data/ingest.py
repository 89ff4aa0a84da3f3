"""From a hospital's cases to stored volumes on one spacing: each once per content, and again where it changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from lifelong_ct.core.errors import DataError, LimitExceeded
from lifelong_ct.core.host_memory import trim
from lifelong_ct.core.types import Case
from lifelong_ct.data import bricks
from lifelong_ct.data.admission import need
from lifelong_ct.data.file_layout import of_case
from lifelong_ct.data.keys import volume_key
from lifelong_ct.data.layouts import Layout
from lifelong_ct.data.resampling import prepare
from lifelong_ct.data.sourced import MENDABLE, is_whole
from lifelong_ct.data.sources import Content
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.volume import StoredVolume

__all__ = ["Ingest", "ingest", "prepare"]

T = TypeVar("T")
_TRIES = 3
"""Readings of a source that changes meanwhile, before that is an error."""


def ingest(
    layout: Layout,
    cases: Sequence[Case],
    store: VolumeStore,
    spacing: Sequence[float] | None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
    **more: Any,
) -> list[StoredVolume]:
    """Stores the cases that are not stored yet: `Ingest(layout, store, spacing, on_case, **more).every(cases)`."""
    return Ingest(layout, store, spacing, on_case, **more).every(cases)


@dataclass
class Ingest:
    """Stores cases of one hospital. What is stored is found by the content of its files.

    Attributes:
        layout: loads them, from several threads at once.
        store: where. Its ledger is asked for the memory of each case before it is read.
        spacing: mm per axis, None for each scan's own.
        on_case: told `(done, total)`, in the order of the cases.
        workers: threads. What is stored and what is returned does not depend on them.
        rehash: hashes every file and checks every stored volume to its last byte, whatever is remembered.
        name: of a case, for notes and errors that may be logged.
        note: told what a user should know: a source that changed, a volume that was damaged. Later, while a volume
            is read, from any thread.
        make_room: gives something up where the disk limit is reached, but none of the keys that it is told; true
            if there was something.
        cached: whether what is read of the volumes goes through the store's cache.
        apart: whether the volumes are for this process only; see `VolumeStore.set_apart`.
    """

    layout: Layout
    store: VolumeStore
    spacing: Sequence[float] | None
    on_case: Callable[[int, int], None] = lambda done, total: None
    workers: int = 1
    rehash: bool = False
    name: Callable[[Case], str] = lambda case: case.id
    note: Callable[[str], None] = lambda text: None
    make_room: Callable[[Collection[str]], bool] = lambda taken: False
    cached: bool = True
    apart: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _taken: set[str] = field(default_factory=set, repr=False)

    def every(self, cases: Sequence[Case]) -> list[StoredVolume]:
        """The volumes, in the order of the cases. They are made again from their source where their file is damaged.

        Raises:
            DataError: the first case that cannot be used; those before it stay stored.
            LimitExceeded: a limit is reached, or a case needs more memory than there is; likewise.
            LifelongCTError: the disk is full; likewise.
        """
        found = self._all(cases, optional=False)
        return [volume for volume in found if volume is not None]

    def what_fits(self, cases: Sequence[Case]) -> list[StoredVolume | None]:
        """Likewise; None for a case that does not fit the disk limit.

        Raises:
            DataError, LifelongCTError: likewise.
            LimitExceeded: a case needs more memory than there is.
        """
        return self._all(cases, optional=True)

    def key(self, case: Case) -> str:
        """The name that the volume of a case has in the store, there or not.

        Raises:
            DataError: a file of the case cannot be read.
        """
        return self._key(case, rehash=False)[1]

    def reopen(self, case: Case, key: str) -> StoredVolume:
        """A volume that is stored, by its key: for those who keep no open volumes.

        Raises:
            DataError: it is damaged, and its source is gone or has changed.
        """
        try:
            try:
                return self._open(case, key)
            except DataError as error:
                if error.code not in MENDABLE:
                    raise
            self._again(case, key)
            return self._open(case, key)
        except _DiskLimit as error:
            raise error.limit from error

    def _all(self, cases: Sequence[Case], optional: bool) -> list[StoredVolume | None]:
        volumes: list[StoredVolume | None] = []
        self._taken = set()
        for volume, notes in _in_order(partial(self._one, optional), cases, min(self.workers, len(cases))):
            for text in notes:
                self.note(text)
            volumes.append(volume)
            self.on_case(len(volumes), len(cases))
        return volumes

    def _one(
        self, optional: bool, order: int, case: Case, stop: threading.Event
    ) -> tuple[StoredVolume | None, list[str]]:
        """The volume of a case, stored now or before, and notes."""
        notes: list[str] = []
        try:
            for _ in range(_TRIES):
                content, key = self._key(case, self.rehash)
                self._taken.add(key)
                if self.apart:
                    self.store.set_apart(key)
                if content is not None and content.changed:
                    notes.append(
                        f"case {self.name(case)}: its source has changed; it is ingested as it is now"
                    )
                volume = self._stored(case, key, notes)
                if volume is None and self._made(order, case, key, content, stop):
                    volume = self._open(case, key)
                if volume is not None:
                    return volume, notes
        except _DiskLimit as error:
            if optional:
                return None, notes
            raise error.limit from error
        raise DataError(
            "its files change while they are read",
            f"case {case.id}, {', '.join(map(str, case.files))}",
            "wait until whoever writes them is done",
            "unsteady",
        )

    def _key(self, case: Case, rehash: bool) -> tuple[Content | None, str]:
        try:
            content = self.store.sources.content(case.files, rehash) if case.files else None
        except DataError as error:
            raise of_case(case, error) from error
        digest = None if content is None else content.digest
        return content, volume_key(case, self.spacing, digest, self.layout)

    def _stored(self, case: Case, key: str, notes: list[str]) -> StoredVolume | None:
        if not self.store.has(key):
            return None
        try:
            if not self.rehash or is_whole(self.store.path(key)):
                return self._open(case, key)
        except DataError as error:
            if error.code not in MENDABLE:
                raise
            if error.code == "gone":
                return None
        notes.append(
            f"case {self.name(case)}: its stored volume was damaged; it is made again from its source"
        )
        return None

    def _open(self, case: Case, key: str) -> StoredVolume:
        return self._fitting(lambda: self.store.get(key, partial(self._again, case, key), self.cached))

    def _made(self, order: int, case: Case, key: str, content: Content | None, stop: threading.Event) -> bool:
        """Whether the volume is there now; false where the source changed while it was read."""
        nbytes = need(self.layout, case, self.spacing)
        with (
            self.store.admission.room(nbytes, order, self.name(case), stop.is_set),
            self.store.claim(key, stop.is_set),
        ):
            if self.store.has(key) and is_whole(self.store.path(key)):
                return True  # another process made it meanwhile
            data = self._packed(case, stop)
            if content is not None and not self.store.sources.same(case.files, content):
                return False
            self._fitting(partial(self.store.write, key, data))
            del data
            trim()  # else the holes that each case leaves in the heap add up
        return True

    def _packed(self, case: Case, stop: threading.Event) -> bytes:
        """The bytes of a volume's file. What is not needed any more is let go before the next step."""
        _go_on(stop)
        raw = self.layout.load(case)
        _go_on(stop)
        raw = prepare(raw, self.spacing)
        _go_on(stop)
        return bricks.pack(raw)

    def _fitting(self, use: Callable[[], T]) -> T:
        """What `use` gives, once there is room on the disk."""
        while True:
            with suppress(LimitExceeded):
                return use()
            with self._lock:
                try:
                    return use()  # another thread may have made room meanwhile
                except LimitExceeded as error:
                    if not self.make_room(set(self._taken)):
                        raise _DiskLimit(error) from error

    def _again(self, case: Case, key: str) -> None:
        """Makes a damaged volume again, while it is in use.

        Raises:
            DataError: its source is not what it was made from.
        """
        shown = f"the stored volume of case {self.name(case)}"
        try:
            content, now = self._key(case, rehash=True)
            if now != key:
                raise DataError("its source has changed", f"case {case.id}", "start the run again", "changed")
            if not self._made(-1, case, key, content, threading.Event()):
                raise DataError(
                    "its source changes now", f"case {case.id}", "wait for whoever writes it", "changed"
                )
        except _DiskLimit as error:
            raise error.limit from error
        except DataError as error:
            raise DataError(
                f"{shown} is damaged, and cannot be made again: {error.what}",
                error.where,
                error.fix,
                "store_damaged",
            ) from error
        self.note(f"{shown} was damaged; it was made again from its source")


class _DiskLimit(Exception):
    """The disk limit, told from that of memory."""

    def __init__(self, limit: LimitExceeded) -> None:
        super().__init__(str(limit))
        self.limit = limit


class _Stopped(Exception):
    """Another case failed: this one is not wanted any more."""


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise _Stopped


def _in_order(
    one: Callable[[int, Case, threading.Event], Any], cases: Sequence[Case], workers: int
) -> Iterator[Any]:
    """What `one` gives for each case, in order; the error of the first case that has one."""
    stop = threading.Event()
    if workers <= 1:
        yield from (one(i, case, stop) for i, case in enumerate(cases))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="ingest") as pool:
        futures = [pool.submit(one, i, case, stop) for i, case in enumerate(cases)]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
