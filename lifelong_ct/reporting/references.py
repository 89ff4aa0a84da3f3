"""Runs of a sweep that others are measured against: trained on one hospital alone, or on all so far together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lifelong_ct.evaluation.reference import Pair, pair
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.reporting.comparison import flat
from lifelong_ct.reporting.run_folder import Run

TOLD = "dice_told"
"""A reference with a network per hospital is asked for the right one: whether a router finds it is another matter."""
ALONE = ("naive", "independent", "joint", "cumulative")
"""Strategies that train on a single hospital as a network without a past does."""
GROUPS = ("stream", "model", "loss", "sampling", "trainer")
FREE = ("stream.first", "stream.order", "stream.exemplars", "stream.name")
"""Keys in which a reference may differ without being told."""


@dataclass(frozen=True)
class Reference:
    """What a run is measured against.

    Attributes:
        label: which runs, for the reader.
        pairs: of the experiences 2 … T that it covers.
    """

    label: str
    pairs: tuple[Pair, ...]


Place = Callable[[Run, int], int | None]
"""Row of a candidate that is the reference of experience i; None where it is none."""


def alone(run: Run, runs: Iterable[Run]) -> Reference | None:
    """Models trained on each hospital alone: a run of `independent`, else runs with one experience."""
    tasks = list(run.tasks.values())

    def independent(other: Run, i: int) -> int | None:
        return (
            i if other.info.get("strategy") == "independent" and list(other.tasks.values()) == tasks else None
        )

    def single(other: Run, i: int) -> int | None:
        fits = other.info.get("strategy") in ALONE and list(other.tasks.values()) == [tasks[i - 1]]
        return 1 if fits else None

    return _best(run, tasks, runs, (independent, single))


def together(run: Run, runs: Iterable[Run]) -> Reference | None:
    """Models trained on the hospitals so far at once: joint runs of each length, else a run of `cumulative`, else the
    joint runs that there are."""
    tasks = list(run.tasks.values())

    def joint(other: Run, i: int) -> int | None:
        return i if _needs(other) == (True, True) and list(other.tasks.values()) == tasks[:i] else None

    def cumulative(other: Run, i: int) -> int | None:
        return i if _needs(other) == (True, False) and list(other.tasks.values()) == tasks else None

    return _best(run, tasks, runs, (joint, cumulative))


def _best(run: Run, tasks: Sequence[Task], runs: Iterable[Run], places: Sequence[Place]) -> Reference | None:
    """The kind that covers most experiences; of several the first."""
    others = [other for other in runs if other.path != run.path]
    found = [
        reference for place in places if (reference := _reference(run, tasks, others, place)) is not None
    ]
    return max(found, key=lambda reference: len(reference.pairs), default=None)


def _reference(run: Run, tasks: Sequence[Task], others: Sequence[Run], place: Place) -> Reference | None:
    pairs: list[Pair] = []
    used: dict[str, None] = {}
    wanted = range(2, len(tasks) + 1)
    for i in wanted:
        rows = [(other, row) for other in others if (row := place(other, i)) is not None]
        known = [
            (other, both)
            for other, row in ([] if place(run, i) is not None else nearest(run, rows))
            if (both := pair(run.matrix, tasks, i, other.matrix, row, other_metric=_metric(other)))
        ]
        if known:
            mine = sum(both[0] for _, both in known) / len(known)
            pairs.append((mine, sum(both[1] for _, both in known) / len(known)))
            used |= dict.fromkeys(_label(run, other) for other, _ in known)
    if not pairs:
        return None
    part = "" if len(pairs) == len(wanted) else f"; {len(pairs)} of {len(wanted)} experiences"
    return Reference(", ".join(used) + part, tuple(pairs))


def nearest(run: Run, candidates: Sequence[tuple[Run, int]]) -> list[tuple[Run, int]]:
    """Those that differ least; of these the one of the same seed, else all seeds."""
    apart = [len(differing(run, other)) for other, _ in candidates]
    near = [each for each, keys in zip(candidates, apart, strict=True) if keys == min(apart)]
    same = [each for each in near if each[0].info.get("seed") == run.info.get("seed")]
    return same[:1] or near


def differing(run: Run, other: Run) -> list[str]:
    """Keys of how it is trained, beside strategy and memory, that two runs do not share."""
    mine, theirs = (_training(each.config) for each in (run, other))
    return sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = flat({key: config[key] for key in GROUPS if key in config})
    return {key: value for key, value in kept.items() if key not in FREE}


def _label(run: Run, other: Run) -> str:
    seed = other.info.get("seed")
    text = str(other.info.get("strategy")) + (f" seed {seed}" if seed != run.info.get("seed") else "")
    keys = differing(run, other)
    return text + (f" (other {', '.join(keys[:3])})" if keys else "")


def _metric(other: Run) -> str:
    return TOLD if TOLD in other.matrix.metrics else "dice"


def _needs(run: Run) -> tuple[bool, bool]:
    needs = (run.config.get("strategy") or {}).get("requires") or {}
    return bool(needs.get("past_data")), bool(needs.get("reinitialise"))
