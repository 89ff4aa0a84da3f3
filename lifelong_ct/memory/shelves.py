"""Where the compressed bytes of exemplars lie: in memory, or as files of the run folder."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from lifelong_ct.core.errors import CheckpointError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory.files import ExemplarFiles

TIERS = ("ram", "disk")
METADATA_SHARE = 64
"""One in so many bytes of a budget is reserved for what is known of exemplars whose bytes lie on disk: `OVERHEAD` of
exemplars of 16 KiB. Where they are smaller, more is asked for when they come."""


class Shelf(Protocol):
    """Holds bytes by the id of their exemplar."""

    in_checkpoint: bool
    """Whether a checkpoint holds the bytes, not the ids alone."""

    def put(self, id: str, data: bytes) -> None:
        """Takes an exemplar."""

    def get(self, id: str) -> bytes:
        """The bytes of an exemplar.

        Raises:
            CheckpointError: damaged or gone.
        """
        ...

    def fetch(self, id: str) -> None:
        """Takes an exemplar that a checkpoint names, and does not hold.

        Raises:
            CheckpointError: damaged or gone.
        """

    def keep(self, ids: Collection[str]) -> None:
        """Lets go of all others."""

    def mark(self) -> Callable[[], None] | None:
        """What brings it back to how it is now, see `Undoable`; None where what goes is gone."""
        ...

    def needs(self, budget: int) -> dict[str, int]:
        """Kind of the ledger → bytes for exemplars of `budget` bytes, `exemplars` left out."""
        ...

    def tell(self, ledger: Ledger, owner: str, budget: int, nbytes: int, stored: int) -> None:
        """Tells the ledger what is used.

        Args:
            ledger: of the run.
            owner: in the ledger.
            budget: of the memory.
            nbytes: of all exemplars, metadata included.
            stored: without.
        """


class RamShelf:
    """In memory; a checkpoint holds them.

    Args:
        files: of a run that had them on disk before.
    """

    in_checkpoint = True

    def __init__(self, files: ExemplarFiles | None = None) -> None:
        self._files, self._data = files, dict[str, bytes]()

    def put(self, id: str, data: bytes) -> None:
        """See `Shelf`."""
        self._data[id] = data

    def get(self, id: str) -> bytes:
        """See `Shelf`."""
        return self._data[id]

    def fetch(self, id: str) -> None:
        """See `Shelf`."""
        if self._files is None:
            raise CheckpointError(
                "the checkpoint names exemplars that lie beside it", "memory.exemplar_tier", "use disk"
            )
        self._data[id] = self._files.get(id)

    def keep(self, ids: Collection[str]) -> None:
        """See `Shelf`."""
        self._data = {id: self._data[id] for id in ids}

    def mark(self) -> Callable[[], None]:
        """See `Shelf`. What goes until the next call is still held by this one."""
        data = self._data

        def undo() -> None:
            self._data = data

        return undo

    def needs(self, budget: int) -> dict[str, int]:
        """See `Shelf`."""
        return {"ram": budget}

    def tell(self, ledger: Ledger, owner: str, budget: int, nbytes: int, stored: int) -> None:
        """See `Shelf`."""
        ledger.use("ram", owner, nbytes)


class DiskShelf:
    """Files; a checkpoint names them.

    Args:
        files: of the run.
        owner: of what is held, one per memory.
    """

    in_checkpoint = False

    def __init__(self, files: ExemplarFiles, owner: str) -> None:
        self._files, self._owner = files, owner

    def put(self, id: str, data: bytes) -> None:
        """See `Shelf`."""
        self._files.put(id, data)

    def get(self, id: str) -> bytes:
        """See `Shelf`."""
        return self._files.get(id)

    def fetch(self, id: str) -> None:
        """See `Shelf`."""
        self._files.get(id)

    def keep(self, ids: Collection[str]) -> None:
        """See `Shelf`."""
        self._files.hold(self._owner, ids)

    def mark(self) -> None:
        """See `Shelf`: a file that goes is deleted."""

    def needs(self, budget: int) -> dict[str, int]:
        """See `Shelf`. Every kept checkpoint may name others than the memory holds."""
        return {"ram": budget // METADATA_SHARE, "disk": budget * (self._files.generations + 1)}

    def tell(self, ledger: Ledger, owner: str, budget: int, nbytes: int, stored: int) -> None:
        """See `Shelf`.

        Raises:
            LimitExceeded: so many small exemplars that what is known of them passes `memory.ram`.
        """
        ledger.admit("ram", owner, max(nbytes - stored, budget // METADATA_SHARE))
        ledger.use("ram", owner, nbytes - stored)
        ledger.use("disk", owner, self._files.nbytes)
