"""Files that are either old or new, never half: temporary file in the same folder, fsync, rename."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from lifelong_ct.core.errors import LifelongCTError

SCRATCH = ".tmp-"
"""What is being written is called so until it is whole."""

_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()
"""Read once: asking for it sets it, which is not safe beside other threads."""


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces `path` atomically.

    Raises:
        LifelongCTError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=SCRATCH, dir=path.parent)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(handle, 0o666 & ~_UMASK)  # mkstemp's 0600 would shut colleagues out
            os.fsync(file.fileno())
        os.replace(name, path)
        fsync_directory(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if os.path.exists(name):
            os.unlink(name)


def write_text(path: Path, text: str) -> None:
    """UTF-8 text, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, atomically. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """JSON of a file.

    Raises:
        LifelongCTError: missing, not readable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LifelongCTError("the file does not exist", str(path), "check the path") from error
    except OSError as error:
        raise LifelongCTError(
            f"cannot read: {error.strerror or error}", str(path), "check the path"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LifelongCTError(f"not valid JSON: {error}", str(path), "mend or replace the file") from error


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A folder that appears under its name only when the block ends well; an old one is replaced.

    Raises:
        LifelongCTError: the disk does not take it; an old folder is still there then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=path.parent))
    except OSError as error:
        raise unwritable(path.parent, error) from error
    try:
        yield scratch
        for file in scratch.rglob("*"):
            if file.is_file():
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
            elif file.is_dir():
                fsync_directory(file)
        os.chmod(scratch, 0o777 & ~_UMASK)
        fsync_directory(scratch)
        _swap(scratch, path)
        fsync_directory(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_scratch(folder: Path) -> None:
    """Deletes what a killed process left half-written in a folder that nobody else writes to."""
    for left in folder.glob(f"{SCRATCH}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _swap(new: Path, path: Path) -> None:
    """Renames `new` to `path`. An old folder takes its place in one step; where the system cannot, it steps aside
    first and comes back if that fails."""
    if not path.exists():
        os.replace(new, path)
        return
    if _exchanged(new, path):
        return
    aside = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=path.parent))
    try:
        os.replace(path, aside / "old")
        try:
            os.replace(new, path)
        except OSError:
            os.replace(aside / "old", path)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Swaps the names of two folders; false where the system or the file system cannot (Linux can)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def fsync_directory(path: Path) -> None:
    """Makes a rename in this folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> str:
    """xxh3-128 of a file, hex."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def unwritable(path: Path, error: OSError) -> LifelongCTError:
    """The error for a folder or disk that does not take our file."""
    return LifelongCTError(
        f"cannot write: {error.strerror or error}", str(path), "free space there, or choose another folder"
    )
