"""What the process really holds, and an allocator that does not let it creep."""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Of glibc's mallopt."""


def anonymous_rss() -> int:
    """Anonymous memory of this process in bytes (Linux; 0 where /proc does not tell)."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


def steady_heap() -> None:
    """Sets glibc's thresholds to what they would drift to: blocks up to 32 MiB come from the heap, which keeps
    up to 64 MiB. Left alone they rise with each larger block that is freed, and the memory of a long
    stream with them. One arena, since each that a thread opens keeps holes of its own. Elsewhere nothing
    happens."""
    _libc("mallopt", _ARENA_MAX, 1)
    _libc("mallopt", _MMAP_THRESHOLD, 32 << 20)
    _libc("mallopt", _TRIM_THRESHOLD, 64 << 20)


def give_back() -> None:
    """Hands freed heap pages back to the system (glibc). Without it the holes that an experience leaves add
    up over a long stream."""
    gc.collect()
    trim()


def trim() -> None:
    """The same without looking for garbage first: for who holds none, and has no time."""
    _libc("malloc_trim", 0)


def _libc(name: str, *args: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*args)
