"""Which exemplars stay: one policy per file, each a pure `decide`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Descriptor:
    """What a policy may know of an exemplar.

    Attributes:
        id: hash of its content; equal content, equal id.
        nbytes: bytes as stored.
        hospital: where it comes from.
        gone: it was dropped earlier; only this descriptor is left of it.
    """

    id: str
    nbytes: int
    hospital: str
    gone: bool = False


class SelectionPolicy(Protocol):
    """Decides, and touches nothing."""

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop per descriptor, at most `budget` bytes kept; the same answer anywhere.

        What is dropped comes again in the next decision as `gone`; keeping that means that later decisions
        have to know of it. A policy keeps few of them: they are outside the budget.
        """
        ...
