"""Who uses which volume of a store: a locked list of keys per live process, and a folder for its half-written
files. Both belong to nobody once the lock is gone, whatever ended the process."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

LEASES, SCRATCH, CLAIMS = "leases", "scratch", "claims"
_POLL = 0.05
_PATIENCE = 600.0
"""Seconds to wait for another process that makes the same volume; then it is made twice, which harms nobody."""


class Leases:
    """The lease of this process, and what can be told of the others.

    Args:
        root: folder of the store.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self._root, name = root, uuid.uuid4().hex
        (root / LEASES).mkdir(parents=True, exist_ok=True)
        (root / CLAIMS).mkdir(exist_ok=True)
        self.scratch = root / SCRATCH / name
        with self.locked():  # nobody takes a lease that is not locked yet for a dead one
            self.path = root / LEASES / name
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT)
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            self.scratch.mkdir(parents=True)
            self.of_others()
            self._remove_orphans()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One thread of one process at a time decides what is used and what is deleted."""
        with open(self._root / ".lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def add(self, key: str) -> None:
        """Takes a further volume; call it inside `locked`.

        Raises:
            OSError: the disk is full; the lease is as before.
        """
        data, end = f"{key}\n".encode(), os.fstat(self._handle).st_size
        try:
            if os.pwrite(self._handle, data, end) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._handle, end)
            raise

    def replace(self, keys: Iterable[str]) -> None:
        """The volumes that are left; call it inside `locked`. They take no more room than before, so that a full
        disk is no hindrance."""
        data = "".join(f"{key}\n" for key in keys).encode()
        os.pwrite(self._handle, data, 0)
        os.ftruncate(self._handle, len(data))

    def of_others(self) -> set[str]:
        """Keys of other live processes; the lists of dead ones are removed. Call it inside `locked`."""
        keys: set[str] = set()
        for path in (self._root / LEASES).iterdir():
            if path.name == self.path.name:
                continue
            try:
                file = open(path)  # noqa: SIM115
            except FileNotFoundError:  # its store was closed just now
                continue
            with file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
                    shutil.rmtree(self._root / SCRATCH / path.name, ignore_errors=True)
                except OSError:
                    keys.update(file.read().split())
        return keys

    @contextmanager
    def claim(self, key: str, stopped: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Keeps other processes and threads from making the same volume at the same time.

        Args:
            key: of the volume.
            stopped: asked now and then; true ends the waiting.
        """
        with open(self._root / CLAIMS / key[:2], "a") as file:  # few files, whatever comes
            give_up = time.monotonic() + _PATIENCE
            while time.monotonic() < give_up and not stopped():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    time.sleep(_POLL)
            yield

    def close(self) -> None:
        """Gives everything back."""
        if self._handle >= 0:
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = -1

    def _remove_orphans(self) -> None:
        """Scratch folders whose lease is gone already."""
        live = {path.name for path in (self._root / LEASES).iterdir()}
        for folder in (self._root / SCRATCH).iterdir():
            if folder.name not in live:
                shutil.rmtree(folder, ignore_errors=True)
