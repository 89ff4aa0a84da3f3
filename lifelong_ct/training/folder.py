"""A run folder belongs to one configuration and one process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import SCRATCH, read_json, remove_scratch, unwritable


def finished(folder: Path, config_hash: str) -> dict[str, Any] | None:
    """The results of a run that is done; None where it is to be started or to be gone on with.

    Raises:
        LifelongCTError: the folder holds something else, or a run of another configuration.
    """
    if not folder.exists() or not any(_is_kept(path.name) for path in _inside(folder)):
        return None
    results = read_json(folder / "results.json") if (folder / "results.json").exists() else None
    run = results.get("run") if isinstance(results, dict) else None
    if not isinstance(results, dict) or not isinstance(run, dict):
        raise LifelongCTError(
            "the folder is not empty and no run folder", str(folder), "choose another paths.run or paths.runs"
        )
    theirs = run.get("config_hash")
    if theirs != config_hash:
        raise LifelongCTError(
            f"the run folder belongs to the configuration {theirs}, this is {config_hash}",
            str(folder),
            "choose another paths.run, or move that folder away; nothing in it was changed",
        )
    return results if results.get("status") == "finished" else None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keeps other processes out of the folder, and clears what a killed one left half-written.

    Raises:
        LifelongCTError: another one is in, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LifelongCTError(
                "another process is running in this folder", str(folder), "wait for it, or stop it"
            ) from error
        for part in (folder, folder / "checkpoints", folder / "figures", folder / "overlays"):
            remove_scratch(part)
        yield
    finally:
        os.close(handle)


def _is_kept(name: str) -> bool:
    """Whether a file says something of a run; a lock, or what a kill left half-written, does not."""
    return name != ".lock" and not name.startswith(SCRATCH)


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise unwritable(folder, error) from error
