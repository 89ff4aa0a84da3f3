"""Compressed bricks in memory, bounded in bytes, read by many threads."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.uncached import private_memory

OWNER = "brick cache"
ENTRY = 640
"""Bytes of Python objects around a brick (its views, its slots in dictionary and list), at most."""
LARGEST, SMALLEST, PARTS = 4 << 20, 256 << 10, 32
"""Bytes of a segment where the capacity is large and small, and into how many it is cut between them."""
SAMPLE = 16
"""One in so many bricks enters a full main part."""
SPAN = 1 << 32
"""Keys of a volume: its base, and so many that follow."""


class Pin:
    """While it is held, no memory that could be seen when it was taken is written again."""

    __slots__ = ("__weakref__",)


@dataclass(slots=True)
class Entry:
    """A brick: its compressed image, and its labels, compressed or the one value that they all have."""

    image: memoryview
    label: memoryview | int
    hit: bool = False

    @property
    def nbytes(self) -> int:
        """Compressed bytes."""
        return len(self.image) + (0 if isinstance(self.label, int) else len(self.label))

    def copied(self, to: memoryview) -> Entry:
        """The same in other memory."""
        n = len(self.image)
        to[:n] = self.image
        if isinstance(self.label, int):
            return Entry(to, self.label)
        to[n:] = self.label
        return Entry(to[:n], to[n:])


@dataclass(slots=True, eq=False)
class Segment:
    """Memory that is filled from front to back, and given up as a whole."""

    memory: memoryview
    live: bool = True
    used: int = 0
    charged: int = 0
    keys: list[int] = field(default_factory=list)

    def has_room(self, nbytes: int) -> bool:
        """Whether a brick fits, with the objects around it."""
        return self.charged + nbytes + ENTRY <= len(self.memory)

    def cut(self, nbytes: int) -> memoryview:
        """The next free bytes."""
        view = self.memory[self.used : self.used + nbytes]
        self.used += nbytes
        self.charged += nbytes + ENTRY
        return view


class BrickCache:
    """A window of the newest bricks and, behind it, a main part that is not flushed by one pass over the data.

    In an epoch every volume is visited once, so what was used last is wanted again last: where little fits,
    keeping it (LRU) finds almost nothing. Here a brick that leaves the window enters a full main part only
    as one of `SAMPLE`, and stays longer if it was found there (the small and main queue of Yang et al.,
    "FIFO queues are all you need for cache eviction", SOSP 2023, doi:10.1145/3600006.3613147, with a sample
    in place of the second sight). So a steady share of the data is here, bricks with organs first.

    Memory is equal segments, filled and given up as a whole: no holes, and no page is faulted in twice.
    Lookups take no lock. A segment is written again once no reader holds a `pin` from before it was given up.

    Args:
        capacity: bytes, Python objects included, reserved in the ledger at once.
        ledger: asked at construction.

    Attributes:
        entries: base + number of the brick → brick. To look things up in, while a pin is held.
        pin: of now.
        nbytes: in use, Python objects included.

    Raises:
        LimitExceeded: the capacity passes `memory.ram`.
    """

    def __init__(self, capacity: int, ledger: Ledger) -> None:
        ledger.admit("ram", OWNER, capacity)
        self.capacity, self._ledger = capacity, ledger
        self._size = max(1, min(LARGEST, max(capacity // PARTS, min(capacity // 8, SMALLEST))))
        count = capacity // self._size
        self._unmade, self._window_len = count, max(2, count // 8)
        self._main_len = count - self._window_len - max(1, count // 64)
        self._window: deque[Segment] = deque()
        self._main: deque[Segment] = deque()
        self._given_up: deque[tuple[weakref.ref[Pin], Segment]] = deque()
        self._bases: dict[str, int] = {}
        self._next_base = itertools.count(0, SPAN)
        self._left = self._gone = 0
        self._lock = threading.Lock()
        self.entries: dict[int, Entry] = {}
        self.pin = Pin()
        self.nbytes = 0

    def base(self, volume: str) -> int:
        """The first key of a volume; another one after each `drop`."""
        found = self._bases.get(volume)
        if found is None:
            with self._lock:
                found = self._bases.setdefault(volume, next(self._next_base))
        return found

    def take(self, sizes: Sequence[int]) -> tuple[Pin, list[tuple[memoryview, Segment | None]]]:
        """Memory for bricks that are about to be read.

        Args:
            sizes: bytes per brick.

        Returns:
            The pin under which the memory is written and read, and per brick its memory and segment; None
            where the cache has no room: that memory belongs to the caller alone.
        """
        # Past one segment the window could come round to what was cut in this very call.
        ends = itertools.accumulate(size + ENTRY for size in sizes)
        with self._lock:
            cuts = [self._cut_window(n) if end <= self._size else None for n, end in zip(sizes, ends)]
            pin = self.pin
            self._ledger.use("ram", OWNER, self.nbytes)
        spare = np.empty(sum(n for n, cut in zip(sizes, cuts) if cut is None), np.uint8).data
        parts: list[tuple[memoryview, Segment | None]] = []
        for size, cut in zip(sizes, cuts):
            parts.append(cut or (spare[:size], None))
            spare = spare if cut else spare[size:]
        return pin, parts

    def keep(self, read: Sequence[tuple[int, Entry, Segment | None]]) -> None:
        """Shows bricks, that were read into memory of `take` and checked, to every reader."""
        with self._lock:
            for key, entry, segment in read:
                if segment is not None and segment.live and key not in self.entries:
                    self.entries[key] = entry
                    segment.keys.append(key)

    def drop(self, volume: str) -> None:
        """Forgets the bricks of a volume. Segments that held nothing else are free at once, so that hospitals that come
        and go do not fill the cache; others when their turn comes."""
        with self._lock:
            base = self._bases.pop(volume, None)
            if base is None:
                return
            stale = {key for key in self.entries if base <= key < base + SPAN}
            for key in stale:
                del self.entries[key]
            for queue in (self._window, self._main):
                for segment in [s for s in queue if not any(key in self.entries for key in s.keys)]:
                    queue.remove(segment)
                    self._give_up(segment)
            self._gone = sum(key not in self.entries for segment in self._main for key in segment.keys)

    def _cut_window(self, nbytes: int) -> tuple[memoryview, Segment] | None:
        if self._main_len < 1:
            return None
        if not self._window or not self._window[-1].has_room(nbytes):
            if len(self._window) >= self._window_len:
                self._leave_window(self._window.popleft())
            fresh = self._fresh()
            if fresh is None:
                return None
            self._window.append(fresh)
        return self._cut(self._window[-1], nbytes)

    def _leave_window(self, old: Segment) -> None:
        for key in old.keys:
            self._left += 1
            if len(self._main) < self._main_len or self._gone > 0 or self._left % SAMPLE == 0:
                self._move_to_main(key)
        self._give_up(old)

    def _leave_main(self, old: Segment) -> None:
        """Bricks that were found here since they came stay, half of the segment at most."""
        moved = 0
        for key in old.keys:
            entry = self.entries.get(key)
            self._gone -= entry is None
            if entry is not None and entry.hit and moved < self._size // 2:
                moved += entry.nbytes + ENTRY
                self._move_to_main(key)
        self._give_up(old)

    def _move_to_main(self, key: int) -> None:
        """Copies a brick there, if it is still wanted and there is memory to copy it to."""
        entry = self.entries.get(key)
        if entry is None:
            return
        if not self._main or not self._main[-1].has_room(entry.nbytes):
            fresh = self._fresh()
            if fresh is None:
                return
            self._main.append(fresh)
            if len(self._main) > self._main_len:
                self._leave_main(self._main.popleft())
        if self._main[-1].has_room(entry.nbytes):
            view, segment = self._cut(self._main[-1], entry.nbytes)
            self.entries[key] = entry.copied(view)
            segment.keys.append(key)

    def _cut(self, segment: Segment, nbytes: int) -> tuple[memoryview, Segment]:
        self.nbytes += nbytes + ENTRY
        return segment.cut(nbytes), segment

    def _give_up(self, old: Segment) -> None:
        """Hides what is left in a segment; its memory waits for those who read now."""
        for key in old.keys:
            entry = self.entries.get(key)
            if entry is not None and entry.image.obj is old.memory.obj:
                del self.entries[key]
        old.live, old.keys = False, []
        self._given_up.append((weakref.ref(self.pin), old))
        self.pin = Pin()

    def _fresh(self) -> Segment | None:
        """A segment to fill: one that nobody reads any more, or a new one; None if there is none."""
        if self._given_up and self._given_up[0][0]() is None:
            _, old = self._given_up.popleft()
            self.nbytes -= old.charged
            return Segment(old.memory)
        if self._unmade == 0:
            return None
        self._unmade -= 1
        return Segment(private_memory(self._size))
