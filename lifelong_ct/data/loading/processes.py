"""Readers that are processes: each has its own volumes and its share of the cache, patches come through memory
that is shared."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.loading.flow import HUNG, hung
from lifelong_ct.data.loading.ring import Ring
from lifelong_ct.data.loading.tasks import Buffers, Done, Name, Task, failed, out_of_memory
from lifelong_ct.data.sampling.policy import At
from lifelong_ct.data.sourced import MENDABLE, SourcedVolume
from lifelong_ct.data.volume import StoredVolume

_START = (
    "import sys; sys.path[:] = sys.argv[3:]\n"
    "from lifelong_ct.data.loading.worker import main; main()"
)  # not `multiprocessing`: it imports the caller's script again, and torch with it
_START_SECONDS = 300
_AGAIN = 3
"""Times that a patch of a damaged volume is read again after the volume was made again."""
_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "BLOSC_NTHREADS",
)


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    connection: socket.socket
    stderr: IO[bytes]
    tasks: deque[Task] = field(default_factory=deque)
    sent: deque[dict[str, Any]] = field(default_factory=deque)
    received: bytes = b""
    held: int = 0


class ProcessReaders:
    """Processes that read. Each volume belongs to one of them, so that nothing is cached twice.

    Args:
        volumes: to read; in the order in which they are dealt out.
        luts: of each volume, and the type of the codes.
        outside: code of voxels outside a volume.
        shape: of a batch, `(B, C, D, H, W)`.
        slots: batches in flight.
        workers: processes.
        capacity: bytes of all their caches together.
        name: of a case, for errors.
        timeout: seconds that a worker may take to accept a task.
        on_use: told the bytes that their caches hold.
    """

    def __init__(
        self,
        volumes: Sequence[tuple[int, StoredVolume]],
        luts: Mapping[int, np.ndarray],
        *,
        outside: int,
        shape: tuple[int, int, int, int, int],
        code_type: str,
        slots: int,
        workers: int,
        capacity: int,
        name: Name,
        timeout: float,
        on_use: Callable[[int], None],
    ) -> None:
        self._name, self._timeout, self._on_use = name, timeout, on_use
        self._ring = Ring.make(slots, shape, code_type)
        self._free = list(range(slots))
        self._volumes = dict(volumes)
        self._owner = {index: turn % workers for turn, (index, _) in enumerate(volumes)}
        self._children: list[_Child] = []
        common = {"slots": slots, "shape": shape, "codes": code_type, "outside": outside}
        try:
            for _ in range(workers):
                self._children.append(_start(self._ring.handle))
            for worker in range(workers):
                mine = [(i, volume) for i, volume in volumes if self._owner[i] == worker]
                share = _share([v for _, v in mine], [v for _, v in volumes], capacity)
                self._send(worker, {**common, **_job(mine, luts), "capacity": share})
            for worker in range(workers):
                self._await_start(worker)
        except BaseException:
            self.stop()
            raise

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [child.process.pid for child in self._children]

    def buffers(self, rows: int) -> Buffers:
        """See `Readers`."""
        return self._ring.slot(self._free.pop(), rows)

    def submit(self, task: Task, buffers: Buffers) -> None:
        """See `Readers`."""
        centre = task.centre
        chosen = [centre.group, int(centre.number)] if isinstance(centre, At) else [int(c) for c in centre]
        self._ask(task, {"volume": task.volume, "row": task.row, "slot": buffers.slot, "centre": chosen})

    def collect(self, seconds: float) -> list[Done]:
        """See `Readers`."""
        found = []
        ready = _readable([child.connection for child in self._children], seconds)
        for worker, child in enumerate(self._children):
            if child.connection in ready:
                found += [done for line in self._lines(worker) if (done := self._done(worker, line))]
        if found:
            self._on_use(sum(child.held for child in self._children))
        return found

    def reading(self) -> dict[int, Task]:
        """See `Readers`."""
        return {worker: child.tasks[0] for worker, child in enumerate(self._children) if child.tasks}

    def take(self, buffers: Buffers) -> tuple[np.ndarray, np.ndarray]:
        """See `Readers`. A copy: a plugin may keep a batch, and the slot is written again."""
        self._free.append(buffers.slot)
        return buffers.x.copy(), buffers.y.copy()

    def close_volume(self, index: int) -> None:
        """See `Readers`."""
        self._volumes.pop(index, None)
        self._send(self._owner[index], {"close": index})

    def stop(self, hung: bool = False) -> None:
        """See `Readers`. They hold nothing that could be lost, so they are not asked."""
        for child in self._children:
            child.connection.close()
            child.process.kill()
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):  # in a system call that even a kill must wait for
                child.process.wait(1 if hung else self._timeout)
            child.stderr.close()
        if self._children or self._free:
            self._ring.close()
        self._children, self._free = [], []

    def _send(self, worker: int, message: Mapping[str, Any]) -> None:
        child = self._children[worker]
        try:
            child.connection.sendall(json.dumps(message).encode() + b"\n")
        except TimeoutError as error:
            raise hung(worker, self._case(child), self._timeout) from error
        except OSError as error:
            raise self._died(worker) from error

    def _await_start(self, worker: int) -> None:
        """Importing takes a second, on a busy machine many: that is no hang."""
        child = self._children[worker]
        if not _readable([child.connection], _START_SECONDS):
            raise DataError(
                f"worker {worker} did not start within {_START_SECONDS} seconds",
                "data.worker_kind=process",
                "check that the machine is not overloaded, or use data.worker_kind=thread",
                HUNG,
            )
        self._lines(worker)
        child.connection.settimeout(self._timeout)

    def _lines(self, worker: int) -> list[bytes]:
        child = self._children[worker]
        try:
            data = child.connection.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            raise self._died(worker)
        *lines, child.received = (child.received + data).split(b"\n")
        return lines

    def _ask(self, task: Task, message: dict[str, Any]) -> None:
        worker = self._owner[task.volume]
        child = self._children[worker]
        child.tasks.append(task)
        child.sent.append(message)
        self._send(worker, message)

    def _done(self, worker: int, line: bytes) -> Done | None:
        """None where the file was damaged and is whole again: the task is read once more."""
        child, reply = self._children[worker], json.loads(line)
        task, message = child.tasks.popleft(), child.sent.popleft()
        child.held = reply.get("held", child.held)
        told = reply.get("error")
        if told is None:
            d, h, w = reply["corner"]
            return Done(worker, task, corner=(d, h, w))
        volume, again = self._volumes.get(task.volume), message.get("again", 0)
        if isinstance(volume, SourcedVolume) and told.get("code") in MENDABLE and again < _AGAIN:
            try:
                volume.mend()
            except LifelongCTError as error:
                return Done(worker, task, error)
            self._ask(task, {**message, "again": again + 1})
            return None
        return Done(worker, task, _error(told, self._name(task.volume)))

    def _case(self, child: _Child) -> str:
        return self._name(child.tasks[0].volume) if child.tasks else "between two cases"

    def _died(self, worker: int) -> DataError:
        child = self._children[worker]
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(self._timeout)
        how, fix = _cause(child)
        what = f"worker {worker} {how}{' while it read a patch' if child.tasks else ''}"
        return DataError(what, self._case(child), fix, "worker_died")


def _readable(connections: Sequence[socket.socket], seconds: float) -> list[socket.socket]:
    """Those with something to read, or with nobody at the other end; `select` fails past 1,023 open files."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    ready = {handle for handle, _ in poll.poll(1000 * seconds)}
    return [connection for connection in connections if connection.fileno() in ready]


def _start(ring: int) -> _Child:
    ours, theirs = socket.socketpair()
    ours.settimeout(_START_SECONDS)
    stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
    paths = [path or os.getcwd() for path in sys.path]
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno()), str(ring), *paths],
            pass_fds=(theirs.fileno(), ring),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
        )
    return _Child(process, ours, stderr)


def _job(volumes: Sequence[tuple[int, StoredVolume]], luts: Mapping[int, np.ndarray]) -> dict[str, Any]:
    tables: dict[tuple[int, ...], int] = {}
    listed = {
        str(i): [
            v.key,
            str(v.path.absolute()),
            v.digest,
            tables.setdefault(tuple(luts[i].tolist()), len(tables)),
        ]
        for i, v in volumes
    }
    return {"volumes": listed, "luts": [list(table) for table in tables]}


def _share(mine: Sequence[StoredVolume], every: Sequence[StoredVolume], capacity: int) -> int:
    """By compressed bytes, so that all workers have the same share of their volumes in memory."""
    return int(capacity * sum(v.nbytes for v in mine) / max(1, sum(v.nbytes for v in every)))


def _error(told: Mapping[str, str], case: str) -> BaseException:
    if "what" in told:
        return DataError(told["what"], told["where"], told["fix"], told["code"])
    if told["kind"] == "MemoryError":
        return out_of_memory(case)
    return failed(RuntimeError(f"{told['kind']}: {told['text']}"), case)


def _cause(child: _Child) -> tuple[str, str]:
    code = child.process.returncode
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL)", (
            "if the system ran out of memory, lower memory.ram or data.workers; the same command goes on after "
            "the last finished experience"
        )
    if code is not None and code < 0:
        return f"crashed ({signal.Signals(-code).name})", (
            "delete the volume from the store, it is made again; if it happens again, report it with the case"
        )
    child.stderr.seek(0)
    last = (child.stderr.read().decode(errors="replace").strip().splitlines() or ["without a word"])[-1]
    return f"ended with {code}: {last[:200]}", "this is unexpected; data.worker_kind=thread may tell more"
