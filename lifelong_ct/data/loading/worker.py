"""The process that reads patches of its own volumes into shared memory. It imports no torch.

It is started by `processes.py` and told what to do in lines of JSON over a socket: first a `Job`, then tasks. It
ends when the socket does, so that it never outlives the process that started it, whatever it is busy with.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.host_memory import steady_heap
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import bricks
from lifelong_ct.data.loading.patches import read_into
from lifelong_ct.data.loading.ring import Ring
from lifelong_ct.data.sampling.policy import At, Corner, corner, resolve
from lifelong_ct.data.volume import BrickCache, StoredVolume

Messages = queue.SimpleQueue[dict[str, Any]]


class Worker:
    """Reads tasks.

    Args:
        job: `capacity` of the cache in bytes; `volumes`: index → key, path, digest and number of the lut; `luts`;
            `slots`, `shape` and `codes` of the ring; `outside`.
        ring: handle of the shared memory.
    """

    def __init__(self, job: Mapping[str, Any], ring: int) -> None:
        self.cache = BrickCache(job["capacity"], Ledger())
        self._volumes, self._outside = job["volumes"], job["outside"]
        self._ring = Ring(ring, job["slots"], tuple(job["shape"]), job["codes"])
        self._luts = [np.array(lut, job["codes"]) for lut in job["luts"]]
        self._open: dict[str, StoredVolume] = {}

    def read(self, task: Mapping[str, Any]) -> Corner:
        """Reads one patch; where it begins.

        Raises:
            DataError: the volume cannot be read.
        """
        index = str(task["volume"])
        if "again" in task:  # its file was made again
            self._forget(index)
        volume, patch = self._volume(index), self._ring.shape[2:]
        chosen = task["centre"]
        centre = At(*chosen) if len(chosen) == 2 else (chosen[0], chosen[1], chosen[2])
        start = corner(volume.shape, patch, resolve(volume, centre))
        row = task["row"]
        buffers = self._ring.slot(task["slot"], row + 1)
        lut = self._luts[self._volumes[index][3]]
        read_into(volume, start, lut, buffers.x[row], buffers.y[row], self._outside)
        return start

    def close_volume(self, index: int) -> None:
        """Forgets a volume."""
        self._forget(str(index))
        self._volumes.pop(str(index), None)

    def _forget(self, index: str) -> None:
        volume = self._open.pop(index, None)
        if volume is not None:
            volume.close()

    def _volume(self, index: str) -> StoredVolume:
        if index not in self._open:
            key, path, digest, _ = self._volumes[index]
            try:
                volume = StoredVolume(key, Path(path), self.cache)
            except FileNotFoundError as error:
                raise DataError(
                    f"the stored volume {key} is gone", path, "start the run again", "gone"
                ) from error
            if volume.digest != digest:
                raise bricks.damaged(Path(path))
            self._open[index] = volume
        return self._open[index]


def answer(worker: Worker, message: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a message is answered with."""
    if "close" in message:
        worker.close_volume(message["close"])
        return None
    try:
        start = worker.read(message)
    except Exception as error:
        return {"error": told(error)}
    return {"held": worker.cache.nbytes, "corner": start}


def told(error: Exception) -> dict[str, str]:
    """An error in JSON."""
    if isinstance(error, LifelongCTError):
        code = error.code if isinstance(error, DataError) else ""
        return {"what": error.what, "where": error.where, "fix": error.fix, "code": code}
    return {"kind": type(error).__name__, "text": str(error)}


def main() -> None:
    """Arguments: handles of the socket and of the shared memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started us decides
    steady_heap()
    connection = socket.socket(fileno=int(sys.argv[1]))
    lines = connection.makefile("rb")
    worker = Worker(json.loads(lines.readline()), int(sys.argv[2]))
    messages: Messages = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines, messages), daemon=True).start()
    connection.sendall(b"ready\n")
    while True:
        reply = answer(worker, messages.get())
        if reply is not None:
            connection.sendall(json.dumps(reply).encode() + b"\n")


def _listen(lines: IO[bytes], messages: Messages) -> None:
    """Also notices that nobody is there any more, while the other thread hangs in a read. What was not read there
    makes an error of the end here."""
    try:
        for line in lines:
            messages.put(json.loads(line))
    finally:
        os._exit(0)
