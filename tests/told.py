"""Descriptors of exemplars made by hand, and who of them a policy keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lifelong_ct.memory.selection import Description, Descriptor


def told(name: str, nbytes: int = 10, hospital: str = "a", gone: bool = False, **said: Any) -> Descriptor:
    """A descriptor: `organs`, scores by their names, vectors as lists by theirs."""
    organs = dict.fromkeys(said.pop("organs", ()), 9)
    vectors = {key: np.array(v, np.float32) for key, v in said.items() if isinstance(v, (list, np.ndarray))}
    scores = {key: v for key, v in said.items() if key not in vectors}
    return Descriptor(name, nbytes, hospital, gone, description=Description(organs, scores, vectors))


def kept(policy: Any, descriptors: Sequence[Descriptor], budget: int, seed: int = 0) -> set[str]:
    """Ids of those that are there and stay."""
    keep = policy.decide(descriptors, seed, budget)
    return {d.id for d, stays in zip(descriptors, keep, strict=True) if stays and not d.gone}


def streamed(policy: Any, stream: Sequence[Descriptor], budget: int, seed: int = 0) -> set[str]:
    """Who is in a memory at the end, when they are offered one by one; what is dropped comes back as gone, without
    vectors, as long as the policy wants that."""
    held: list[Descriptor] = []
    for newcomer in stream:
        held.append(newcomer)
        keep = policy.decide(held, seed, budget)
        stay = [d for d, stays in zip(held, keep, strict=True) if stays and not d.gone]
        assert sum(d.nbytes for d in stay) <= budget
        gone = [
            Descriptor(d.id, d.nbytes, d.hospital, True, Description(scores=d.description.scores))
            for d, stays in zip(held, keep, strict=True)
            if stays == d.gone
        ]
        held = [*stay, *gone]
    return {d.id for d in held if not d.gone}
