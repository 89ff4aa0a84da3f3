"""What lies in the folder of a store, and what to say where its disk is full."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.units import format_bytes

SUFFIX = ".lctvol"
"""Of the file of a volume."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StoredFile(NamedTuple):
    """A volume on disk.

    Attributes:
        key: its name.
        nbytes: of its file.
        used: when it was written or opened last, in ns.
    """

    key: str
    nbytes: int
    used: int


def on_disk(root: Path, suffix: str) -> list[StoredFile]:
    """Every volume of a store, whoever uses it."""
    found = []
    for folder in os.scandir(root):
        if len(folder.name) == 2 and folder.is_dir():
            for file in os.scandir(folder.path):
                if not file.name.endswith(suffix):
                    continue
                try:
                    stat = file.stat()
                except FileNotFoundError:  # deleted just now
                    continue
                found.append(StoredFile(file.name.removesuffix(suffix), stat.st_size, stat.st_mtime_ns))
    return found


def is_full(error: BaseException) -> bool:
    """Whether a file could not be written because the disk, or the user's share of it, is full."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL


def full(root: Path, nbytes: int, error: BaseException) -> LifelongCTError:
    """The error for a disk that has no room for a file of so many bytes."""
    free = shutil.disk_usage(root).free
    missing = max(1, nbytes - free)
    cause = error if isinstance(error, OSError) else error.__cause__
    told = cause.strerror if isinstance(cause, OSError) else str(error)
    return LifelongCTError(
        f"the disk of the volume store is full: {missing} bytes are missing ({format_bytes(nbytes)} are needed, "
        f"{format_bytes(free)} are free; {told}). The store is whole",
        f"{root}, on the disk mounted at {_mount(root)}",
        f"free at least {format_bytes(missing)} there, set paths.store to a folder on another disk, or lower "
        "memory.disk so that volumes of past hospitals leave earlier",
    )


def _mount(path: Path) -> Path:
    path = path.resolve()
    while not os.path.ismount(path):
        path = path.parent
    return path
