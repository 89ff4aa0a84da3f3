"""Batches on their way to the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.protocols import Batch

PINNED = "pinned buffers"
BUFFERS = 2
"""One whose copy may be under way, and one that is filled."""
_ALIGNED = 16
"""Bytes that the parts of a buffer begin at multiples of, for any type."""


class Copies(Protocol):
    """What a device does for the feed."""

    def pinned(self, nbytes: int) -> Tensor:
        """uint8 `[nbytes]` of memory that the device reads by itself."""
        ...

    def send(self, parts: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        """Begins to copy; the copies, and a ticket for them."""
        ...

    def finish(self, ticket: Any) -> None:
        """Waits on the host until these copies are made."""
        ...

    def use(self, ticket: Any, copies: Sequence[Tensor]) -> None:
        """What is computed from now on waits, on the device, for these copies, which stay until it has used them."""
        ...


class CudaCopies:
    """Copies on a stream of their own.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def pinned(self, nbytes: int) -> Tensor:
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def send(self, parts: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        with torch.cuda.stream(self.stream):
            copies = [part.to(self.device, non_blocking=True) for part in parts]
            return copies, self.stream.record_event()

    def finish(self, ticket: Any) -> None:
        ticket.synchronize()

    def use(self, ticket: Any, copies: Sequence[Tensor]) -> None:
        present = torch.cuda.current_stream(self.device)
        present.wait_event(ticket)
        for copy in copies:
            copy.record_stream(present)  # its memory is not given to another copy before that


@dataclass
class _Buffer:
    room: Tensor | None = None
    ticket: Any = None


class DeviceFeed:
    """Hands batches out on the device. While one is computed with, the next is copied there: from one of two pinned
    buffers in turn, which are filled again only when their copy is made.

    Args:
        copies: of the device.
        ledger: asked for the buffers, which are as large as the largest batch so far and are kept.
    """

    def __init__(self, copies: Copies, ledger: Ledger | None = None) -> None:
        self.copies, self.ledger = copies, ledger
        self._buffers = [_Buffer() for _ in range(BUFFERS)]
        self._sent = 0

    def __call__(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches, in order; one is read ahead of what is handed out.

        Raises:
            LimitExceeded: the buffers pass `memory.ram`.
        """
        waiting: tuple[Batch, Any] | None = None
        try:
            for batch in batches:
                sent = self._send(batch)
                if waiting is not None:
                    yield self._used(*waiting)
                waiting = sent
            if waiting is not None:
                yield self._used(*waiting)
        finally:
            getattr(batches, "close", lambda: None)()  # ends what reads ahead
            self._finish()

    def _used(self, batch: Batch, ticket: Any) -> Batch:
        self.copies.use(ticket, (batch.x, batch.y))
        return batch

    def _send(self, batch: Batch) -> tuple[Batch, Any]:
        buffer = self._buffers[self._sent % BUFFERS]
        self._sent += 1
        if buffer.ticket is not None:
            self.copies.finish(buffer.ticket)
        parts = self._filled(buffer, (batch.x, batch.y))
        (x, y), buffer.ticket = self.copies.send(parts)
        return replace(batch, x=x, y=y), buffer.ticket

    def _filled(self, buffer: _Buffer, parts: Sequence[Tensor]) -> list[Tensor]:
        nbytes = _pinned_size([part.numel() * part.element_size() for part in parts])
        if buffer.room is None or len(buffer.room) < nbytes:
            buffer.room = None
            self._admit(nbytes + sum(len(other.room) for other in self._buffers if other.room is not None))
            buffer.room = self.copies.pinned(nbytes)
        filled, start = [], 0
        for part in parts:
            own = part.numel() * part.element_size()
            room = buffer.room[start : start + own].view(part.dtype).view(part.shape)
            filled.append(room.copy_(part))
            start += _rounded(own)
        return filled

    def _admit(self, nbytes: int) -> None:
        if self.ledger is not None:
            self.ledger.admit("ram", PINNED, max(nbytes, self.ledger.holders("ram").get(PINNED, 0)))
            self.ledger.use("ram", PINNED, nbytes)

    def _finish(self) -> None:
        for buffer in self._buffers:
            if buffer.ticket is not None:
                self.copies.finish(buffer.ticket)
                buffer.ticket = None


Feed = Callable[[Iterator[Batch]], Iterator[Batch]]


def feed_for(device: torch.device, ledger: Ledger | None = None) -> Feed:
    """What brings batches to a device: nothing at all where it is the CPU, or no CUDA device."""
    return DeviceFeed(CudaCopies(device), ledger) if device.type == "cuda" else as_they_are


def pinned_bytes(patch: Sequence[int], batch: int, channels: int = 1) -> int:
    """Bytes of the buffers for batches of int16 voxels and uint8 codes.

    Args:
        patch: voxels per axis.
        batch: patches.
        channels: of the image.
    """
    voxels = batch * math.prod(patch)
    return BUFFERS * _pinned_size([2 * channels * voxels, voxels])


def _pinned_size(parts: Sequence[int]) -> int:
    """A power of two: PyTorch pins no other sizes."""
    return 1 << (sum(map(_rounded, parts)) - 1).bit_length()


def _rounded(nbytes: int) -> int:
    return -(-nbytes // _ALIGNED) * _ALIGNED


def as_they_are(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The feed of the CPU."""
    return batches
