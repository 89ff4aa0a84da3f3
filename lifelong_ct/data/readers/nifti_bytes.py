"""The bytes of a file in order, plain or gzip: never more than asked for, and whole to the checksum."""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lifelong_ct.core.paths import head, is_remote, read_bytes
from lifelong_ct.data.types import bad_file

CHUNK = 256 << 10
MOST_RATIO = 1032
"""gzip turns one byte into no more than so many."""


@contextmanager
def opened(path: Path, most: int | None = None) -> Iterator[Bytes]:
    """Opens a regular file; a pipe or device would block. Of a URL the bytes are fetched first.

    Args:
        path: of the file.
        most: bytes of a URL's file that are enough; None for all.

    Raises:
        DataError: missing, unreadable, not-a-file; corrupt for whatever goes wrong while it is read.
    """
    try:
        with _fetched(path, most) if is_remote(path) else _regular(path) as file:
            yield (Gzip if path.name.endswith(".gz") else Bytes)(file)
    except FileNotFoundError as error:
        raise bad_file(path, "it does not exist", "missing", "check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            what = f"it cannot be read: {error.strerror}"
            raise bad_file(path, what, "unreadable", "check the path and its rights") from error
        raise bad_file(
            path, f"it is not whole: {error}", "corrupt", "copy it again from its source"
        ) from error


def _fetched(path: Path, most: int | None) -> BinaryIO:
    try:
        return io.BytesIO(read_bytes(path) if most is None else head(path, most))
    except OSError as error:
        what = f"it cannot be read: {error.strerror or error}"
        raise bad_file(path, what, "missing", "check the path") from error


def _regular(path: Path) -> BinaryIO:
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise bad_file(path, "it is a pipe or a device", "not-a-file", "give a regular file")
    return file


class Bytes:
    """Of a plain file.

    Args:
        file: at its start.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)

    @property
    def most(self) -> int:
        """Bytes that the file can hold at most."""
        return self.size

    @property
    def taken(self) -> int:
        """Bytes of the file that what was read so far has taken."""
        return self._file.tell()

    def restart(self) -> None:
        """Goes back to the start."""
        self._file.seek(0)

    def read(self, count: int) -> bytes:
        """The next bytes; fewer only at the end."""
        return self._file.read(count)

    def skip(self, count: int) -> None:
        """Passes over bytes."""
        while count > 0:
            count -= len(self.read(min(count, CHUNK))) or count

    def fill(self, buffer: memoryview) -> None:
        """Fills a buffer of bytes.

        Raises:
            EOFError: the file ends before.
        """
        at = 0
        while at < len(buffer):
            data = self.read(min(CHUNK, len(buffer) - at))
            if not data:
                raise EOFError("it ends before its last voxel")
            buffer[at : at + len(data)] = data
            at += len(data)

    def finish(self, spare: int) -> None:
        """Reads to the end, where checksums are.

        Raises:
            OSError: there are more than `spare` bytes.
        """
        while data := self.read(CHUNK):
            spare -= len(data)
            if spare < 0:
                raise OSError("there is more than its header announces")


class Gzip(Bytes):
    """Of a gzip file of one or more members, with zeros behind them as tapes and some tools leave them.

    Args:
        file: at its start.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._member: zlib._Decompress | None = None
        self._rest = b""
        self._members = 0

    @property
    def taken(self) -> int:
        """Compressed bytes that what was read so far has taken."""
        return self._file.tell() - len(self._rest)

    def restart(self) -> None:
        """Goes back to the start."""
        super().restart()
        self._member, self._rest, self._members = None, b"", 0

    @property
    def most(self) -> int:
        """Bytes that the file can hold at most."""
        return self.size * MOST_RATIO

    def read(self, count: int) -> bytes:
        """The next bytes; fewer only at the end.

        Raises:
            OSError, EOFError, zlib.error: the stream is damaged or cut, or something else stands behind it.
        """
        parts = []
        while count > 0 and self._begun():
            part = self._some(count)
            parts.append(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some(self, count: int) -> bytes:
        member = self._member
        assert member is not None
        data = self._rest or self._file.read(CHUNK)
        if not data and not member.unconsumed_tail:
            part = member.decompress(b"", count)  # what it still holds
            if not part and not member.eof:
                raise EOFError("the compressed stream ends before its end marker")
        else:
            part = member.decompress(data, count)
        self._rest = member.unconsumed_tail
        if member.eof:
            self._rest, self._member = member.unused_data, None
        return part

    def _begun(self) -> bool:
        """Whether there is a member to read from."""
        if self._member is None:
            while not self._rest.lstrip(b"\0" if self._members else b""):
                self._rest = self._file.read(CHUNK)
                if not self._rest:
                    if not self._members:
                        raise EOFError("it is empty")
                    return False
            self._rest = self._rest.lstrip(b"\0") if self._members else self._rest
            if not b"\x1f\x8b".startswith(self._rest[:2]):
                raise OSError("not a gzip file" if not self._members else "there is something behind its end")
            self._member, self._members = zlib.decompressobj(31), self._members + 1
        return True
