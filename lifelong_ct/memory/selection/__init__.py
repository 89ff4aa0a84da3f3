"""Which exemplars stay: one policy per file, each a pure `decide`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import derive_seed

NEEDS = frozenset({"offered", "organs", "embedding", "mean", "gradient", "loss", "uncertainty"})
"""What a policy may ask to be described, see `needs_of`; `offered` comes with any other."""


@dataclass(frozen=True)
class Description:
    """What the model and the labels say of a patch when it is offered.

    Attributes:
        organs: organ → its voxels in the patch.
        scores: name → number, such as `loss` or `uncertainty`; `offered` is when, in optimizer steps of the run.
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
    _draws: dict[tuple[int, str], int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def draw(self, seed: int, purpose: str) -> int:
        """63 bits that depend on seed, purpose and content only; drawn once, since every decision asks again."""
        key = (seed, purpose)
        if key not in self._draws:
            self._draws[key] = derive_seed(seed, purpose, self.id)
        return self._draws[key]


class SelectionPolicy(Protocol):
    """Decides, and touches nothing.

    An attribute `needs` names what of a `Description` it reads; without, nothing. A method `turns_away(newcomer, gone,
    seed) -> bool`, where it has one, is asked before: True says that `decide` would drop the newcomer and leave all else
    as it was after the last decision, because of what is gone. It then is not called, which saves looking at every
    exemplar for each patch that a full memory refuses.
    """

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop per descriptor, at most `budget` bytes kept; the same answer anywhere.

        What is dropped comes again in the next decision as `gone`; keeping that means that later decisions
        have to know of it. A policy keeps few of them: they are outside the budget.
        """
        ...


def needs_of(policy: Any) -> frozenset[str]:
    """Which of `NEEDS` the exemplars are to be described with for a policy.

    Raises:
        LifelongCTError: it is no policy, or needs what nobody describes.
    """
    name = type(policy).__name__
    if not callable(getattr(policy, "decide", None)):
        raise LifelongCTError(
            f"{name} is no selection policy",
            "selection._target_",
            "give it decide(descriptors, seed, budget); see lifelong_ct.memory.selection.SelectionPolicy",
        )
    needs = frozenset(getattr(policy, "needs", ()))
    if unknown := needs - NEEDS:
        raise LifelongCTError(
            f"{name} needs {', '.join(sorted(unknown))}, which nobody describes",
            "selection._target_",
            f"use some of {', '.join(sorted(NEEDS))}",
        )
    return needs
