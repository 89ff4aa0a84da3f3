"""First in, first out."""

from __future__ import annotations

from collections.abc import Sequence

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.shares import fitting


class Recent:
    """Keeps what was offered last.

    The linear memory of Chou et al., "Embracing Massive Medical Data", MICCAI 2024 (arXiv 2407.04687): a queue of the
    most recent part of the stream. The oldest patches leave until the rest fits.
    """

    needs: frozenset[str] = frozenset({"offered"})

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; the kept ones sum to at most `budget` bytes. What is gone is
        forgotten."""
        kept = set(fitting(descriptors, reversed(in_order(descriptors)), budget))
        return [i in kept for i in range(len(descriptors))]


def in_order(descriptors: Sequence[Descriptor]) -> list[int]:
    """Positions of what is there, from the first to the last that was offered."""
    there = (i for i, descriptor in enumerate(descriptors) if not descriptor.gone)
    return sorted(there, key=lambda i: (offered(descriptors[i]), descriptors[i].id))


def offered(descriptor: Descriptor) -> float:
    """When, in optimizer steps of the run; 0 where nobody says."""
    return descriptor.description.scores.get("offered", 0.0)
