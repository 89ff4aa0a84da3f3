"""results.json for who shows numbers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def scalars(results: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """results.json as one level of `a/b/c` → number, text or bool; what is null is left out.

    A score is `scores/<after>/<hospital>/<organ>/<metric>/{mean,n}`, an experience `experiences/<after>/…`, a
    skipped case `skipped/<number>/…`, a list of words one text.
    """
    flat: dict[str, Any] = {}
    for key, value in results.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(scalars(value, f"{name}/"))
        elif key == "scores" and not prefix:
            for s in value:
                place = f"scores/{s['after']}/{s['hospital']}/{s['organ']}/{s['metric']}/"
                flat.update(scalars({"mean": s["mean"], "n": s["n"]}, place))
        elif key == "experiences" and not prefix:
            for e in value:
                flat.update(scalars({k: v for k, v in e.items() if k != "after"}, f"{name}/{e['after']}/"))
        elif key == "skipped" and not prefix:
            for i, row in enumerate(value):
                flat.update(scalars(row, f"{name}/{i}/"))
        elif isinstance(value, (list, tuple)):
            flat[name] = ", ".join(map(str, value))
        elif value is not None:
            flat[name] = value
    return flat
