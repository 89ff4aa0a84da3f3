"""The volume store: preprocessed volumes on disk, read patch by patch, inside a disk and a memory limit."""

from __future__ import annotations

import fcntl
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from lifelong_ct.core.errors import LimitExceeded
from lifelong_ct.core.files import unwritable, write_bytes
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.units import format_bytes
from lifelong_ct.data import bricks
from lifelong_ct.data.bricks import Corner
from lifelong_ct.data.types import RawCase

OWNER = "volume store"
SUFFIX = ".lctvol"


class BrickCache:
    """Compressed bricks, the least recently used leave first.

    Args:
        capacity: bytes, reserved in the ledger at once.
        ledger: asked at construction.

    Raises:
        LimitExceeded: the capacity passes `memory.ram`.
    """

    def __init__(self, capacity: int, ledger: Ledger) -> None:
        self.capacity, self._ledger = capacity, ledger
        self._bricks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0
        ledger.admit("ram", "brick cache", capacity)

    def get(self, key: tuple[str, int]) -> bytes | None:
        """The brick, if it is here."""
        with self._lock:
            if key in self._bricks:
                self._bricks.move_to_end(key)
            return self._bricks.get(key)

    def put(self, key: tuple[str, int], data: bytes) -> None:
        """Keeps a brick, if it is smaller than the whole cache."""
        with self._lock:
            if key in self._bricks or len(data) > self.capacity:
                return
            self._bricks[key] = data
            self.nbytes += len(data)
            while self.nbytes > self.capacity:
                _, old = self._bricks.popitem(last=False)
                self.nbytes -= len(old)
            self._ledger.use("ram", "brick cache", self.nbytes)

    def drop(self, volume: str) -> None:
        """Forgets the bricks of a volume."""
        with self._lock:
            for key in [key for key in self._bricks if key[0] == volume]:
                self.nbytes -= len(self._bricks.pop(key))
            self._ledger.use("ram", "brick cache", self.nbytes)


class StoredVolume:
    """A volume that is opened; what is held of it is its header and positions as they are asked for.

    Attributes:
        key: name in the store.
        digest: of its content.
        shape: voxels `(D, H, W)`.
        organs, overlaps, scales: see `RawCase`.
        affine: float64 `[4, 4]`.
    """

    def __init__(self, key: str, path: Path, cache: BrickCache) -> None:
        self.key, self._path, self._cache = key, path, cache
        self._header, self._start = bricks.read_header(path)
        self._positions: dict[str, npt.NDArray[np.uint16]] = {}
        self.digest, self.organs = self._header.digest, self._header.organs
        self.overlaps, self.scales = self._header.overlaps, self._header.scales
        _, d, h, w = self._header.shape
        self.shape = (d, h, w)
        self.affine = np.array(self._header.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm per axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def positions(self, organ: str) -> npt.NDArray[np.uint16]:
        """Voxels of an organ `[n, 3]`, at most `bricks.POSITIONS`."""
        if organ not in self._positions:
            offset, count, checksum = self._header.positions[organ]
            data = self._checked(offset, 6 * count, checksum)
            self._positions[organ] = np.frombuffer(data, "<u2").reshape(count, 3)
        return self._positions[organ]

    def read(self, start: Corner, size: Corner) -> tuple[npt.NDArray[np.int16], np.ndarray]:
        """A box that lies inside: int16 `[C, d, h, w]` and local label ids `[d, h, w]`.

        Raises:
            DataError: the file is gone or damaged.
        """
        header = self._header
        image = np.empty((header.shape[0], *size), np.int16)
        label = np.empty(size, header.label_dtype)
        for index in header.touching(start, size):
            low, high = header.box(index)
            voxels, ids = bricks.unpack(
                self._brick(index), header.bricks[index][1], header.shape[0], (low, high), header.label_dtype
            )
            first = [max(a, s) for a, s in zip(low, start, strict=True)]
            last = [min(b, s + n) for b, s, n in zip(high, start, size, strict=True)]
            here = tuple(slice(a - s, b - s) for a, b, s in zip(first, last, start, strict=True))
            there = tuple(slice(a - s, b - s) for a, b, s in zip(first, last, low, strict=True))
            image[(slice(None), *here)] = voxels[(slice(None), *there)]
            label[here] = ids[there]
        return image, label

    def _brick(self, index: int) -> bytes:
        data = self._cache.get((self.key, index))
        if data is None:
            offset, one, two, checksum = self._header.bricks[index]
            data = self._checked(offset, one + two, checksum)
            self._cache.put((self.key, index), data)
        return data

    def _checked(self, offset: int, length: int, checksum: str) -> bytes:
        data = bricks.read_range(self._path, self._start + offset, length)
        if xxhash.xxh3_64_hexdigest(data) != checksum:
            raise bricks.damaged(self._path)
        return data


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
