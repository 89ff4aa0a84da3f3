"""What a case's files hold, as one hash: remembered as long as their sizes, times and inodes stay the same."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from lifelong_ct.core import paths
from lifelong_ct.core.errors import DataError
from lifelong_ct.data.types import bad_file

INDEX = "sources.sqlite"
MOST = 200_000
"""Cases that are remembered, about 100 bytes each; those not asked for the longest leave first."""
_RACY_NS = 2_000_000_000
"""A file that was changed so shortly before it was read may change again without another time: it is hashed
again next time."""
_DAY = 86_400
_TELLING = frozenset(
    {"etag", "last-modified", "lastmodified", "mtime", "created", "updated", "crc", "md5hash", "version"}
)
"""What a server tells that changes with a file: size alone does not."""
_TABLE = (
    "CREATE TABLE IF NOT EXISTS sources (place BLOB PRIMARY KEY, stamp BLOB, content BLOB, used INTEGER, "
    "checksum BLOB) WITHOUT ROWID"
)


@dataclass(frozen=True)
class Content:
    """What was found.

    Attributes:
        digest: xxh3-128 over the bytes of all files, whatever they are called and wherever they lie.
        stamp: of the files at that moment; None where nothing tells whether they change.
        changed: they held something else when they were read last.
    """

    digest: str
    stamp: bytes | None
    changed: bool


class Sources:
    """An index in the store of what files held. It holds hashes only: no path and no name can be read from it.

    It is a cache: what cannot be read of it, or is damaged, is hashed again.

    Args:
        path: of the index.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._db = self._open()

    def content(self, files: Sequence[Path], rehash: bool = False) -> Content:
        """The hash of files, folders or URLs, together.

        Args:
            files: in the order of `Case.files`.
            rehash: reads them, whatever is remembered.

        Raises:
            DataError: missing.
        """
        place = xxhash.xxh3_128_digest("\0".join(str(path.absolute()) for path in files).encode())
        began = time.time_ns()
        stamp, newest = _stamp(files)
        known = self._find(place)
        if known is not None and stamp is not None and known[0] == stamp and not rehash:
            self._touch(place, known[2])
            return Content(known[1].hex(), stamp, False)
        digest = xxhash.xxh3_128()
        for path in files:
            digest.update(_hash(path))
        calm = stamp is not None and newest < began - _RACY_NS
        self._keep(place, stamp if calm and stamp is not None else b"", digest.digest())
        return Content(digest.hexdigest(), stamp, known is not None and known[1] != digest.digest())

    def same(self, files: Sequence[Path], content: Content) -> bool:
        """Whether the files are still as they were when `content` was told; what tells nothing is trusted."""
        return content.stamp is None or _stamp(files)[0] == content.stamp

    def close(self) -> None:
        """Ends the use of the index."""
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = None

    def _open(self) -> sqlite3.Connection | None:
        for _ in range(2):
            try:
                db = sqlite3.connect(self._path, timeout=10, isolation_level=None, check_same_thread=False)
                db.execute(
                    "PRAGMA synchronous=OFF"
                )  # a cache: a row that did not reach the disk is made again
                db.execute(_TABLE)
                return db
            except sqlite3.Error as error:
                if _passing(error, self._path):
                    return None
                self._discard()
        return None

    def _discard(self) -> None:
        for end in ("", "-journal"):
            Path(f"{self._path}{end}").unlink(missing_ok=True)

    def _find(self, place: bytes) -> tuple[bytes, bytes, int] | None:
        rows = self._run("SELECT stamp, content, used, checksum FROM sources WHERE place=?", place)
        if not rows:
            return None
        stamp, content, used, checksum = rows[0]
        try:
            whole = checksum == _checksum(place, stamp, content)
        except TypeError:  # a bit flipped in the type of a value
            whole = False
        return (stamp, content, int(used)) if whole and isinstance(used, int) else None

    def _keep(self, place: bytes, stamp: bytes, content: bytes) -> None:
        row = (place, stamp, content, int(time.time()), _checksum(place, stamp, content))
        self._run("INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?, ?)", *row)
        count = self._run("SELECT count(*) FROM sources")
        if count and count[0][0] > MOST:
            oldest = "SELECT place FROM sources ORDER BY used LIMIT ?"
            self._run(f"DELETE FROM sources WHERE place IN ({oldest})", MOST // 8)

    def _touch(self, place: bytes, used: int) -> None:
        now = int(time.time())
        if now - used > _DAY:
            self._run("UPDATE sources SET used=? WHERE place=?", now, place)

    def _run(self, text: str, *values: Any) -> list[Any]:
        with self._lock:
            if self._db is None:
                return []
            try:
                return self._db.execute(text, values).fetchall()
            except sqlite3.Error as error:
                if not _passing(error, self._path):
                    with suppress(sqlite3.Error):
                        self._db.close()
                    self._discard()
                    self._db = self._open()
                return []


def _passing(error: sqlite3.Error, path: Path) -> bool:
    """Whether it is no fault of the index: another process is in for long, or the disk is full or read-only.
    Otherwise it is damaged, and begun anew."""
    text = str(error)
    if "readonly" in text or "unable to open" in text:
        return not os.access(path if path.exists() else path.parent, os.W_OK)
    return any(word in text for word in ("locked", "busy", "full", "I/O"))


def _checksum(*parts: bytes) -> bytes:
    return xxhash.xxh3_64_digest(b"".join(len(part).to_bytes(2, "little") + part for part in parts))


def _stamp(files: Iterable[Path]) -> tuple[bytes | None, int]:
    """Changes with every file's size, time or inode, or with what a server tells; and the newest time in ns."""
    told: list[Any] = []
    newest, known = 0, True
    for path in files:
        for part in _parts(path):
            try:
                if paths.is_remote(part):
                    kept = [(key, value) for key, value in paths.stamp(part) if key != "type"]
                    known = known and any(key.lower() in _TELLING for key, _ in kept)
                    told.append(kept)
                else:
                    stat = part.stat()
                    told.append((stat.st_size, stat.st_mtime_ns, stat.st_ino))
                    newest, known = max(newest, stat.st_mtime_ns), known and stat.st_mtime_ns > 0
            except OSError as error:
                raise _missing(part, error) from error
    return xxhash.xxh3_128_digest(json.dumps(told).encode()) if known else None, newest


def _parts(path: Path) -> Iterable[Path]:
    """The files that are read for a path: of a folder all of them."""
    if paths.is_folder(path):
        return sorted((part for part in path.rglob("*") if part.is_file()), key=str)
    return [path]


def _hash(path: Path) -> bytes:
    """xxh3-128 of a file; of a folder, of the set of its files' hashes: their names do not count."""
    if paths.is_folder(path):
        return xxhash.xxh3_128_digest(b"folder" + b"".join(sorted(map(_hash, _parts(path)))))
    digest = xxhash.xxh3_128()
    try:
        for block in paths.blocks(path, 1 << 20):
            digest.update(block)
    except OSError as error:
        raise _missing(path, error) from error
    return digest.digest()


def _missing(path: Path, error: OSError) -> DataError:
    return bad_file(path, f"it cannot be read: {error.strerror or error}", "missing", "check the path")
