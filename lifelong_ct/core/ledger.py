"""The ledger: who holds how many bytes of what, against the limits of the run."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lifelong_ct.core.errors import LimitExceeded
from lifelong_ct.core.units import format_bytes, parse_bytes

KINDS = ("ram", "disk", "gpu", "exemplars")


class Ledger:
    """Admission before allocation.

    Whoever keeps bytes on purpose asks first: `admit` reserves them or raises, so that the sum of all
    reservations of a kind never passes its limit. What is really stored inside a reservation is told
    with `use`; both peaks are reported beside the limit.

    Args:
        limits: bytes per kind of `KINDS`; a missing kind or None has no limit.
    """

    def __init__(self, limits: Mapping[str, int | str | float | None] | None = None) -> None:
        given = dict(limits or {})
        self.limits: dict[str, int | None] = {
            kind: None if given.get(kind) is None else parse_bytes(given[kind], f"memory.{kind}")  # type: ignore[arg-type]
            for kind in KINDS
        }
        self._held: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        self._used: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        self._peak: dict[str, int] = defaultdict(int)
        self._peak_used: dict[str, int] = defaultdict(int)
        self._lock = threading.RLock()

    def admit(self, kind: str, owner: str, nbytes: int) -> None:
        """Sets the reservation of `owner` to `nbytes` (it replaces an earlier one).

        Raises:
            LimitExceeded: the limit of the kind would be passed; nothing changes then.
        """
        with self._lock:
            others = self.held(kind) - self._held[kind].get(owner, 0)
            limit = self.limits[kind]
            if limit is not None and others + nbytes > limit:
                raise LimitExceeded(
                    f"{owner} needs {format_bytes(nbytes)} ({nbytes} bytes) of {kind}, "
                    f"{format_bytes(max(limit - others, 0))} are free of {format_bytes(limit)}",
                    f"memory.{kind}; held: {self._listing(kind, without=owner)}",
                    f"raise memory.{kind} to at least {others + nbytes}, or ask for less",
                )
            self._held[kind][owner] = nbytes
            self._peak[kind] = max(self._peak[kind], self.held(kind))

    def release(self, kind: str, owner: str) -> None:
        """Gives the whole reservation of `owner` back."""
        with self._lock:
            self._held[kind].pop(owner, None)
            self._used[kind].pop(owner, None)

    def use(self, kind: str, owner: str, nbytes: int) -> None:
        """Tells how many bytes `owner` really stores now, inside its reservation."""
        with self._lock:
            self._used[kind][owner] = nbytes
            self._peak_used[kind] = max(self._peak_used[kind], sum(self._used[kind].values()))

    def held(self, kind: str) -> int:
        """Bytes reserved now."""
        return sum(self._held[kind].values())

    def free(self, kind: str) -> int | None:
        """Bytes that could still be reserved; None without a limit."""
        limit = self.limits[kind]
        return None if limit is None else limit - self.held(kind)

    def peak(self, kind: str) -> int:
        """Most bytes ever reserved at once."""
        return self._peak[kind]

    def peak_used(self, kind: str) -> int:
        """Most bytes ever told with `use` at once."""
        return self._peak_used[kind]

    def holders(self, kind: str) -> dict[str, int]:
        """Owner → reserved bytes."""
        return dict(self._held[kind])

    @contextmanager
    def reserve(self, kind: str, owner: str, nbytes: int) -> Iterator[None]:
        """`admit` for the length of a block."""
        self.admit(kind, owner, nbytes)
        try:
            yield
        finally:
            self.release(kind, owner)

    def report(self) -> dict[str, dict[str, int | None]]:
        """Per kind: limit, peak (reserved) and used (stored) in bytes."""
        return {
            kind: {"limit": self.limits[kind], "peak": self.peak(kind), "used": self.peak_used(kind)}
            for kind in KINDS
        }

    def _listing(self, kind: str, without: str) -> str:
        rows = [f"{o} {format_bytes(n)}" for o, n in sorted(self._held[kind].items()) if o != without]
        return ", ".join(rows) or "nothing"
