"""Most GPU memory of each kind of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

Peak = dict[str, int]


class Statistics(Protocol):
    """Of the caching allocator of one device; see `torch.cuda.memory`."""

    def allocated(self) -> int:
        """Most bytes of tensors since the last reset."""
        ...

    def reserved(self) -> int:
        """Most bytes that the process held for them, since then: what a limit of the process counts."""
        ...

    def reset(self) -> None:
        """Both begin anew, at what is held now."""
        ...

    def beside(self) -> tuple[int, str]:
        """Bytes of the device in use that this process's allocator does not hold, other processes' included; and its
        name."""
        ...


class CudaStatistics:
    """Those of PyTorch.

    Args:
        device: of CUDA.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def allocated(self) -> int:
        """See `Statistics`."""
        return torch.cuda.max_memory_allocated(self.device)

    def reserved(self) -> int:
        """See `Statistics`."""
        return torch.cuda.max_memory_reserved(self.device)

    def reset(self) -> None:
        """See `Statistics`."""
        torch.cuda.reset_peak_memory_stats(self.device)

    def beside(self) -> tuple[int, str]:
        """See `Statistics`."""
        free, whole = torch.cuda.mem_get_info(self.device)
        return whole - free - torch.cuda.memory_reserved(self.device), torch.cuda.get_device_name(self.device)


class DevicePeaks:
    """Peaks per kind of work, where work of one kind may stand within work of another: each counts its own.

    Args:
        statistics: of the device; None where it has none: then nothing is found.

    Attributes:
        found: kind of work → most bytes `allocated` and `reserved` since `restart`.
        most: of all kinds, since the run began or went on.
    """

    def __init__(self, statistics: Statistics | None) -> None:
        self.statistics = statistics
        self.found: dict[str, Peak] = {}
        self.most: Peak = {}
        self._doing: list[str] = []

    @classmethod
    def of(cls, device: torch.device) -> DevicePeaks:
        """Of a device; only CUDA tells."""
        return cls(CudaStatistics(device) if device.type == "cuda" else None)

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Meanwhile work of a kind is done."""
        self._look()
        self._doing.append(what)
        try:
            yield
        finally:
            self._look()
            self._doing.pop()

    def restart(self) -> None:
        """Forgets what was found per kind."""
        self.found = {}

    def _look(self) -> None:
        """What was done until now ends here."""
        if self.statistics is None:
            return
        if self._doing:
            seen = {"allocated": self.statistics.allocated(), "reserved": self.statistics.reserved()}
            for known in (self.found.setdefault(self._doing[-1], {}), self.most):
                known.update({key: max(known.get(key, 0), value) for key, value in seen.items()})
        self.statistics.reset()
