"""What a run has cost: parameters, bytes, patches seen again, steps. From the `experiences` of results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class Costs(TypedDict):
    """The measures of this file by name; None where a run did not write down what they need."""

    parameters: int | None
    growth: float | None
    size_efficiency: float | None
    held_bytes: int | None
    seen_again: float | None
    steps: int | None


def costs(experiences: Sequence[Mapping[str, Any]]) -> Costs:
    """All measures."""
    sizes = [int(e["parameters"]) for e in experiences if e.get("parameters")]
    held = [sum(e["held"].values()) for e in experiences if e.get("held") is not None]
    return {
        "parameters": sizes[-1] if sizes else None,
        "growth": sizes[-1] / sizes[0] if sizes else None,
        "size_efficiency": size_efficiency(sizes),
        "held_bytes": max(held, default=None),
        "seen_again": seen_again(experiences),
        "steps": sum(int(e.get("steps") or 0) for e in experiences) if experiences else None,
    }


def size_efficiency(sizes: Sequence[int]) -> float | None:
    """MS = min(1, 1/N Σ_i θ_1 / θ_i), θ_i the parameters after experience i (Díaz-Rodríguez et al. 2018, arXiv
    1810.13166): 1 where the model does not grow."""
    return min(1.0, sum(sizes[0] / size for size in sizes) / len(sizes)) if sizes else None


def seen_again(experiences: Sequence[Mapping[str, Any]]) -> float | None:
    """Patches that were trained on again per new patch: exemplars, and patches of cases of past experiences.

    None where a plugin does not count its exemplars, or where no patch was new.
    """
    new = [e.get("patches") for e in experiences]
    again = [e.get("seen_again") for e in experiences]
    if not experiences or None in new or None in again or not sum(new):  # type: ignore[arg-type]
        return None
    return sum(again) / sum(new)  # type: ignore[arg-type]
