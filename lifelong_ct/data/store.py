"""The volume store: preprocessed volumes on disk, read patch by patch, inside a disk and a memory limit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path

from lifelong_ct.core.errors import DataError, LifelongCTError, LimitExceeded
from lifelong_ct.core.files import fsync_directory, unwritable, write_bytes
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.units import format_bytes
from lifelong_ct.data import bricks
from lifelong_ct.data.admission import Admission
from lifelong_ct.data.leases import Leases
from lifelong_ct.data.sourced import SourcedVolume
from lifelong_ct.data.sources import INDEX, Sources
from lifelong_ct.data.store_format import claim_folder
from lifelong_ct.data.store_room import SUFFIX, StoredFile, full, is_full, on_disk
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import BrickCache, StoredVolume

OWNER = "volume store"
CACHE = "brick cache"


class VolumeStore:
    """A folder of volumes, shared by processes and runs.

    What this process uses counts against its own disk limit, and so do volumes that no live process uses, left by
    runs that ended or were killed: when this process needs room they go, the least recently used first.
    What other live processes use counts against theirs. So the folder never outgrows the sum of the limits
    of those who write to it. Each keeps a locked list of its keys under `leases/`; no volume on a list of
    another live process is deleted.

    Args:
        root: the folder.
        ledger: asked before bytes are written or memory is used.
        cache_bytes: capacity of the brick cache.
        quota: bytes of disk, reserved at once so that the need does not depend on how many volumes come;
            None reserves each volume when it comes.

    Raises:
        LifelongCTError: the folder cannot be written, or belongs to a newer version.
        LimitExceeded: cache or quota pass their limit.
    """

    def __init__(self, root: Path, ledger: Ledger, cache_bytes: int, quota: int | None = None) -> None:
        self.root, self.ledger, self.quota = root, ledger, quota
        self.cache, self._no_cache = BrickCache(cache_bytes, ledger), BrickCache(0, Ledger())
        self.admission = Admission(ledger)
        self.written = 0
        self._sizes: dict[str, int] = {}
        self._apart: set[str] = set()
        if quota is not None:
            ledger.admit("disk", OWNER, quota)
        try:
            self._leases = Leases(root)
            with self._leases.locked():
                claim_folder(root)
        except OSError as error:
            raise unwritable(root, error) from error
        except LifelongCTError:  # a newer version's
            self._leases.close()
            raise

    @property
    def nbytes(self) -> int:
        """Bytes of the volumes that this process uses."""
        return sum(list(self._sizes.values()))

    @cached_property
    def sources(self) -> Sources:
        """What the files of cases held when they were read last."""
        return Sources(self.root / INDEX)

    def has(self, key: str) -> bool:
        """Whether the volume is there."""
        return self.path(key).exists()

    def path(self, key: str) -> Path:
        """Of a volume's file."""
        root = self._leases.scratch if key in self._apart else self.root
        return root / key[:2] / f"{key}{SUFFIX}"

    def set_apart(self, key: str) -> None:
        """Until it is evicted the volume is this process's alone, and its file goes with the process, however that ends.
        One that is in use already stays where it is."""
        if key not in self._sizes:
            self._apart.add(key)

    def put(self, key: str, raw: RawCase) -> StoredVolume:
        """Writes a volume; a case without labels gets a label of zeros.

        Raises:
            LimitExceeded: it does not fit; nothing is written.
            LifelongCTError: the disk is full; likewise.
        """
        self.write(key, bricks.pack(raw))
        return self.get(key)

    def write(self, key: str, data: bytes) -> None:
        """Writes the file of a volume, made by `bricks.pack`, and uses it.

        Raises:
            LimitExceeded: it does not fit; nothing is written.
            LifelongCTError: the disk is full; likewise.
        """
        with self._locked():
            self._remove_unused(len(data), key)
            self._use(key, len(data))
        try:
            self._write_file(key, data)
        except BaseException:
            with self._locked():
                self._release([key])
            raise
        self.written += len(data)
        self.cache.drop(key)

    def get(self, key: str, again: Callable[[], None] | None = None, cached: bool = True) -> StoredVolume:
        """Opens a volume that is there, and keeps others from deleting it.

        Args:
            key: its name.
            again: makes its file anew; see `SourcedVolume`.
            cached: false for what is read once.

        Raises:
            LimitExceeded: it does not fit into what this process may use.
            DataError: gone, damaged or written by a newer version.
        """
        path = self.path(key)
        with self._locked():
            if key not in self._sizes:
                try:
                    size = path.stat().st_size
                except OSError as error:
                    raise _gone(path) from error
                self._use(key, size)
        with suppress(OSError):  # somebody else's file: the time of its last use stays
            os.utime(path)
        kind = StoredVolume if again is None else partial(SourcedVolume, again=again)
        try:
            return kind(key, path, self.cache if cached else self._no_cache)
        except FileNotFoundError as error:
            raise _gone(path) from error

    def evict(self, *keys: str) -> None:
        """Gives volumes up, and deletes those that nobody else uses; of one that was set apart both files."""
        for key in keys:
            self.cache.drop(key)
        with self._locked():
            self._release(keys)
            others = self._leases.of_others()
            for key in keys:
                if key in self._apart:
                    self.path(key).unlink(missing_ok=True)
                    self._apart.remove(key)
                if key not in others:
                    self.path(key).unlink(missing_ok=True)

    @contextmanager
    def cache_lent(self) -> Iterator[None]:
        """While nobody reads, what the brick cache has reserved and does not hold is free for others."""
        self.ledger.admit("ram", CACHE, min(self.cache.nbytes, self.cache.capacity))
        try:
            yield
        finally:
            self.ledger.admit("ram", CACHE, self.cache.capacity)

    def claim(self, key: str, stopped: Callable[[], bool] = lambda: False) -> AbstractContextManager[None]:
        """See `Leases.claim`."""
        return self._leases.claim(key, stopped)

    def close(self) -> None:
        """Ends this process's use; the volumes stay for the next run."""
        self._leases.close()
        if "sources" in vars(self):
            self.sources.close()

    # --- inside the lock ------------------------------------------------------------------------------

    def _limit(self) -> int | None:
        free = self.ledger.free("disk")
        if self.quota is not None or free is None:
            return self.quota
        return free + self.ledger.holders("disk").get(OWNER, 0)

    def _remove_unused(self, nbytes: int, key: str) -> None:
        """Makes room for a volume within the limit, among those that nobody uses."""
        limit = self._limit()
        if limit is None:
            return
        mine = self.nbytes - self._sizes.get(key, 0) + nbytes
        others = [
            file for file in on_disk(self.root, SUFFIX) if file.key not in self._sizes and file.key != key
        ]
        excess = mine + sum(file.nbytes for file in others) - limit
        if excess > 0:
            leased = self._leases.of_others()
            unused = [file for file in others if file.key not in leased]
            self._remove_oldest(unused, mine + sum(file.nbytes for file in unused) - limit)

    def _remove_oldest(self, unused: list[StoredFile], nbytes: int) -> bool:
        """Deletes volumes, the least recently used first, until so many bytes are free; whether any was."""
        gone = 0
        for file in sorted(unused, key=lambda file: (file.used, file.key)):
            if gone >= nbytes:
                break
            self.path(file.key).unlink(missing_ok=True)
            gone += file.nbytes
        return gone > 0

    def _use(self, key: str, nbytes: int) -> None:
        total = self.nbytes - self._sizes.get(key, 0) + nbytes
        if self.quota is None:
            self.ledger.admit("disk", OWNER, total)
        elif total > self.quota:
            raise LimitExceeded(
                f"a volume of {format_bytes(nbytes)} does not fit: {format_bytes(self.nbytes)} of "
                f"{format_bytes(self.quota)} for volumes are in use",
                f"memory.disk; held: {OWNER} {format_bytes(self.nbytes)}",
                f"raise memory.disk by at least {total - self.quota} bytes",
            )
        if key not in self._sizes:
            try:
                self._leases.add(key)
            except OSError as error:
                self._tell()
                raise full(self.root, len(key) + 1, error) from error
        self._sizes[key] = nbytes
        self._tell()

    def _release(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._sizes.pop(key, None)
        self._tell()
        self._leases.replace(self._sizes)

    def _tell(self) -> None:
        if self.quota is None:
            self.ledger.admit("disk", OWNER, self.nbytes)
        self.ledger.use("disk", OWNER, self.nbytes)

    # --- files ----------------------------------------------------------------------------------------

    def _write_file(self, key: str, data: bytes) -> None:
        try:
            self._write_aside(key, data)
        except LifelongCTError as error:
            if not is_full(error):
                raise
            if not self._freed(len(data)):
                raise full(self.root, len(data), error) from error
            try:
                self._write_aside(key, data)
            except LifelongCTError as again:
                raise (full(self.root, len(data), again) if is_full(again) else again) from again

    def _freed(self, nbytes: int) -> bool:
        """Gives a full disk back what nobody uses."""
        with self._locked():
            leased = self._leases.of_others() | set(self._sizes)
            unused = [file for file in on_disk(self.root, SUFFIX) if file.key not in leased]
            return self._remove_oldest(unused, nbytes)

    def _write_aside(self, key: str, data: bytes) -> None:
        """Written in this process's own folder first, whatever kills it; then renamed."""
        path, aside = self.path(key), self._leases.scratch / f"{key}-{threading.get_ident()}"
        write_bytes(aside, data)
        try:
            path.parent.mkdir(exist_ok=True)
            os.replace(aside, path)
            fsync_directory(path.parent)
        except OSError as error:
            raise unwritable(path, error) from error
        finally:
            aside.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._leases.locked():
            yield


def _gone(path: Path) -> DataError:
    return DataError(f"the stored volume {path.stem} is gone", str(path), "start the run again", "gone")
