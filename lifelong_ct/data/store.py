"""The volume store: preprocessed volumes on disk, read patch by patch, inside a disk and a memory limit."""

from __future__ import annotations

import fcntl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lifelong_ct.core.errors import LimitExceeded
from lifelong_ct.core.files import unwritable, write_bytes
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.units import format_bytes
from lifelong_ct.data import bricks
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import BrickCache, StoredVolume

OWNER = "volume store"
SUFFIX = ".lctvol"


class VolumeStore:
    """A folder of volumes, shared by processes and runs.

    What this process uses counts against its own disk limit. A volume is deleted only where no other live
    process uses it: each keeps a locked list of its keys under `leases/`.

    Args:
        root: the folder.
        ledger: asked before bytes are written or memory is used.
        cache_bytes: capacity of the brick cache.
        quota: bytes of disk, reserved at once so that the need does not depend on how many volumes come;
            None reserves each volume when it comes.

    Raises:
        LifelongCTError: the folder cannot be written.
        LimitExceeded: cache or quota pass their limit.
    """

    def __init__(self, root: Path, ledger: Ledger, cache_bytes: int, quota: int | None = None) -> None:
        self.root, self.ledger, self.quota = root, ledger, quota
        self.cache = BrickCache(cache_bytes, ledger)
        self._sizes: dict[str, int] = {}
        if quota is not None:
            ledger.admit("disk", OWNER, quota)
        try:
            (root / "leases").mkdir(parents=True, exist_ok=True)
            with self._locked():  # nobody takes a lease that is not locked yet for a dead one
                self._lease = open(root / "leases" / uuid.uuid4().hex, "w+")  # noqa: SIM115 - see close()
                fcntl.flock(self._lease, fcntl.LOCK_EX)
        except OSError as error:
            raise unwritable(root, error) from error

    @property
    def nbytes(self) -> int:
        """Bytes of the volumes that this process uses."""
        return sum(self._sizes.values())

    def has(self, key: str) -> bool:
        """Whether the volume is there."""
        return self._path(key).exists()

    def put(self, key: str, raw: RawCase) -> StoredVolume:
        """Writes a volume; a case without labels gets a label of zeros.

        Raises:
            LimitExceeded: it does not fit; nothing is written.
        """
        data = bricks.pack(raw)
        with self._locked():
            self._use(key, len(data))
        try:
            write_bytes(self._path(key), data)
        except BaseException:
            with self._locked():
                self._release(key)
            raise
        self.cache.drop(key)
        return self.get(key)

    def get(self, key: str) -> StoredVolume:
        """Opens a volume that is there, and keeps others from deleting it.

        Raises:
            LimitExceeded: it does not fit into what this process may use.
            DataError: gone or damaged.
        """
        with self._locked():
            if key not in self._sizes:
                try:
                    size = self._path(key).stat().st_size
                except OSError as error:
                    raise bricks.damaged(self._path(key)) from error
                self._use(key, size)
        return StoredVolume(key, self._path(key), self.cache)

    def evict(self, key: str) -> None:
        """Gives a volume up, and deletes it where nobody else uses it."""
        self.cache.drop(key)
        with self._locked():
            self._release(key)
            if key not in self._leased_by_others():
                self._path(key).unlink(missing_ok=True)

    def close(self) -> None:
        """Ends this process's use; the volumes stay for the next run."""
        if not self._lease.closed:
            Path(self._lease.name).unlink(missing_ok=True)
            self._lease.close()

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}{SUFFIX}"

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
        self._sizes[key] = nbytes
        self.ledger.use("disk", OWNER, self.nbytes)
        self._write_lease()

    def _release(self, key: str) -> None:
        self._sizes.pop(key, None)
        if self.quota is None:
            self.ledger.admit("disk", OWNER, self.nbytes)
        self.ledger.use("disk", OWNER, self.nbytes)
        self._write_lease()

    def _write_lease(self) -> None:
        self._lease.seek(0)
        self._lease.truncate()
        self._lease.write("\n".join(self._sizes))
        self._lease.flush()

    def _leased_by_others(self) -> set[str]:
        """Keys of live processes; the lists of dead ones are removed."""
        keys: set[str] = set()
        for path in (self.root / "leases").iterdir():
            if path.name == Path(self._lease.name).name:
                continue
            try:
                file = open(path)  # noqa: SIM115
            except FileNotFoundError:  # its store was closed just now
                continue
            with file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
                except OSError:
                    keys.update(file.read().split())
        return keys

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time decides what is used and what is deleted."""
        with open(self.root / ".lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
