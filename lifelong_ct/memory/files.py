"""Exemplars as files of a run folder, each once however many checkpoints name it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import xxhash

from lifelong_ct.core.errors import CheckpointError
from lifelong_ct.core.files import remove_scratch, write_bytes

FOLDER = "exemplars"
"""In the run folder."""


class ExemplarFiles:
    """A folder of files that are named by the hash of their bytes.

    A file is there as long as a memory holds it or a kept checkpoint names it. It is whole before anybody names it.

    Args:
        folder: of the files; made when the first one comes.
        generations: checkpoints that are kept.

    Attributes:
        nbytes: of all files.
    """

    def __init__(self, folder: Path, generations: int) -> None:
        self.folder, self.generations = folder, generations
        self.nbytes = 0
        self._named: frozenset[str] = frozenset()
        self._held: dict[str, frozenset[str]] = {}
        self._sizes: dict[str, int] = {}

    def put(self, id: str, data: bytes) -> None:
        """Writes a file: aside, to the disk, under its name.

        Raises:
            LifelongCTError: the disk does not take it.
        """
        write_bytes(self.folder / id, data)
        self._count(id, len(data))

    def get(self, id: str) -> bytes:
        """The bytes of a file.

        Raises:
            CheckpointError: damaged or gone.
        """
        path = self.folder / id
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _lost(f"an exemplar cannot be read: {error.strerror or error}", path) from error
        if xxhash.xxh3_128_hexdigest(data) != id:
            raise _lost("the file of an exemplar is damaged", path)
        return data

    def hold(self, owner: str, ids: Collection[str]) -> None:
        """What a memory holds from now on; files that nobody needs any more go."""
        before = self._held.get(owner, frozenset())
        self._held[owner] = frozenset(ids)
        self._remove(before - self._held[owner] - self._needed())

    def name(self, ids: Iterable[str]) -> None:
        """What the kept checkpoints name from now on. Every file goes that nobody needs, also of a process that was
        killed."""
        self._named = frozenset(ids)
        remove_scratch(self.folder)
        there = {path.name: path.stat().st_size for path in self._paths()}
        self._sizes, self.nbytes = there, sum(there.values())
        self._remove(set(there) - self._needed())

    def _needed(self) -> set[str]:
        return set(self._named).union(*self._held.values())

    def _remove(self, ids: Iterable[str]) -> None:
        for id in ids:
            (self.folder / id).unlink(missing_ok=True)
            self._count(id, 0)

    def _count(self, id: str, nbytes: int) -> None:
        self.nbytes += nbytes - self._sizes.pop(id, 0)
        if nbytes:
            self._sizes[id] = nbytes

    def _paths(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.exists() else []


def _lost(what: str, path: Path) -> CheckpointError:
    return CheckpointError(
        what,
        str(path),
        "delete the checkpoints that name it (the newest ones); the run goes on from an older one",
    )
