"""Which exemplars stay: one policy per file, each a pure `decide`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Description:
    """What the model and the labels say of a patch when it is offered.

    Attributes:
        organs: organ → its voxels in the patch.
        scores: name → number, such as `loss` or `uncertainty`.
        vectors: name → float32 `[n]`, such as `embedding` or `gradient`.
    """

    organs: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Descriptor:
    """What a policy may know of an exemplar.

    Attributes:
        id: hash of its content; equal content, equal id.
        nbytes: bytes as stored.
        hospital: where it comes from.
        gone: it was dropped earlier; only this descriptor is left of it.
        description: of its patch, when it was offered.
    """

    id: str
    nbytes: int
    hospital: str
    gone: bool = False
    description: Description = field(default_factory=Description, compare=False)


class SelectionPolicy(Protocol):
    """Decides, and touches nothing."""

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop per descriptor, at most `budget` bytes kept; the same answer anywhere.

        What is dropped comes again in the next decision as `gone`; keeping that means that later decisions
        have to know of it. A policy keeps few of them: they are outside the budget.
        """
        ...
