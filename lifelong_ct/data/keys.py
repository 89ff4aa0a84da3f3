"""The name of a volume in the store: all that its voxels follow from, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

import xxhash

from lifelong_ct.core.types import Case
from lifelong_ct.data.bricks import VERSION

FORMAT = 5
"""Version of the preprocessing, part of every key: a change makes new volumes."""
_NOT_VOXELS = ("hospital", "id", "patient", "split", "images", "label", "masks", "licence", "label_kind")


def volume_key(case: Case, spacing: Sequence[float] | None, content: str | None, layout: Any) -> str:
    """32 hex digits: a hash of content and preprocessing, so that a moved or renamed source finds its volume, a
    changed one does not, and two cases that are equal share one. No identifier can be read from it.

    Args:
        case: of its fields everything counts but names, paths, split, licence and kind of label.
        spacing: mm per axis, None for the scan's own.
        content: hash of `case.files`; None for a case that is drawn, which its parameters, hospital and id
            stand for.
        layout: reads the case; its `rules`, if it has some, count.
    """
    parts = {
        "format": [FORMAT, VERSION.decode()],
        "content": content if case.files else ["drawn", case.hospital, case.id],
        "files": [len(case.images), case.label is not None],
        "masks": _masks(case),
        "spacing": spacing and [float(s) for s in spacing],
        "layout": _reading(layout, case),
        **{field.name: getattr(case, field.name) for field in fields(case) if field.name not in _NOT_VOXELS},
    }
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True, default=_plain).encode())


def _masks(case: Case) -> dict[str, list[int]]:
    """Organ → places of its masks in `case.files`: which file it is, not what it is called."""
    places = {path: i for i, path in enumerate(case.files)}
    found = {}
    for organ, names in case.masks.items():
        assert case.label is not None
        paths = [case.label / name for name in ([names] if isinstance(names, str) else names)]
        if all(path in places for path in paths):
            found[organ] = [places[path] for path in paths]
    return found


def _reading(layout: Any, case: Case) -> dict[str, Any]:
    """What else decides: the function that reads, the rules of the hospital, and which organs contain which."""
    load = type(layout).load
    rules = getattr(layout, "rules", None)
    vocabulary = getattr(rules, "vocabulary", None)
    inside = (
        None if vocabulary is None else _inside(vocabulary, tuple(sorted({*case.organs, *case.label_ids})))
    )
    return {
        "load": f"{load.__module__}.{load.__qualname__}",
        "rules": _plain(rules) if is_dataclass(rules) else None,
        "inside": inside,
    }


@lru_cache(maxsize=256)
def _inside(vocabulary: Any, organs: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(a, b) for a in organs for b in organs if a != b and vocabulary.contains(a, b)]


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value) if f.name != "vocabulary"}
    return dict(value)
