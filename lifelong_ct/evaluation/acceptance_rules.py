"""The rules of `compare`: how much worse a new model may be, where, and by which measure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from lifelong_ct.core.errors import LifelongCTError

DEFAULT = Path(__file__).with_name("acceptance.yaml")
_ROOT = ("alpha", "minimum_patients", "undecided", "missing", "metrics", "hospitals", "organs", "exceptions")
_LIMITS = ("margin", "negative_flips", "worst_decile")
# names of metrics begin so: `dice_told` is a Dice
_LESS = ("hd95", "asd", "lesion_false_positives", "volume_abs_error_ml")
OVERLAP = ("dice", "iou", "nsd")
_MORE = (*OVERLAP, "lesion_sensitivity")


@dataclass(frozen=True)
class Limits:
    """Of one hospital, organ and metric, in the metric's unit.

    Attributes:
        margin: what the mean over patients may lose.
        loss, share: at most this share of patients loses more than `loss`; None: no limit.
        worst_decile: what the mean of the worst tenth of the patients may lose; None: no limit.
    """

    margin: float
    loss: float | None = None
    share: float | None = None
    worst_decile: float | None = None


@dataclass(frozen=True)
class Rules:
    """What `acceptance.yaml` says.

    Attributes:
        alpha: level of the tests.
        minimum_patients: fewer decide nothing.
        undecided_blocks: whether what is undecided stops the new model.
        missing_blocks: whether patients without a score of the new model do.
        metrics: name → limits.
        higher: metrics of which more is better.
        hospitals, organs: which are compared; None for all.
        exceptions: (keys, limits that change) in order.
        told: the rules as they were given, for the record.
    """

    alpha: float
    minimum_patients: int
    undecided_blocks: bool
    missing_blocks: bool
    metrics: Mapping[str, Limits]
    higher: frozenset[str]
    hospitals: tuple[str, ...] | None
    organs: tuple[str, ...] | None
    exceptions: tuple[tuple[Mapping[str, str], Mapping[str, Any]], ...]
    told: Mapping[str, Any]

    def limits(self, hospital: str, organ: str, metric: str) -> Limits:
        """Of a cell: the metric's, changed by every exception that fits."""
        found = self.metrics[metric]
        cell = {"hospital": hospital, "organ": organ, "metric": metric}
        for keys, changes in self.exceptions:
            if all(cell[key] == value for key, value in keys.items()):
                found = replace(found, **changes)
        return found


def read_rules(path: Path = DEFAULT) -> Rules:
    """Rules of a file.

    Raises:
        LifelongCTError: missing, not YAML, or not as `parse_rules` wants them.
    """
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LifelongCTError(f"cannot read: {error.strerror}", str(path), "check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LifelongCTError(
            f"not YAML: {error}", str(path), f"start from a copy of {DEFAULT.name}"
        ) from error
    return parse_rules(told)


def parse_rules(told: Any) -> Rules:
    """Rules of what a YAML file holds.

    Raises:
        LifelongCTError: an unknown key, with the nearest one; a value out of its range; a metric without margin, or of
            which nobody knows whether more is better.
    """
    root = _mapping(told, "the rules")
    _known(root, _ROOT, "the rules")
    metrics = {
        name: _mapping(given, f"metrics.{name}")
        for name, given in _mapping(root.get("metrics"), "metrics").items()
    }
    if not metrics:
        raise LifelongCTError("no metric is named", "metrics", "write metrics: {dice: {margin: 0.02}}")
    for name, given in metrics.items():
        _known(given, (*_LIMITS, "better"), f"metrics.{name}")
        if "margin" not in given:
            raise LifelongCTError("there is no margin", f"metrics.{name}", "state what the mean may lose")
    return Rules(
        alpha=_number(root.get("alpha", 0.05), "alpha", 0.0, 0.5, above=True),
        minimum_patients=_count(root.get("minimum_patients", 20), "minimum_patients"),
        undecided_blocks=_blocks(root, "undecided"),
        missing_blocks=_blocks(root, "missing"),
        metrics={n: Limits(**_limits(given, f"metrics.{n}")) for n, given in metrics.items()},
        higher=frozenset(name for name, given in metrics.items() if _more_is_better(name, given)),
        hospitals=_names(root, "hospitals"),
        organs=_names(root, "organs"),
        exceptions=tuple(_exception(i, each, metrics) for i, each in enumerate(_list(root, "exceptions"))),
        told=root,
    )


def nearest(name: str, known: Collection[str]) -> str:
    """`did you mean …? ` for a misspelt name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


def _exception(
    index: int, given: Any, metrics: Collection[str]
) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    where = f"exceptions[{index}]"
    each = _mapping(given, where)
    _known(each, ("hospital", "organ", "metric", *_LIMITS), where)
    keys: dict[str, str] = {k: str(each[k]) for k in ("hospital", "organ", "metric") if k in each}
    if "metric" in keys:
        _known({keys["metric"]: None}, metrics, where)
    return keys, _limits(each, where)


def _limits(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of `Limits` that are given."""
    found: dict[str, Any] = {}
    if "margin" in given:
        found["margin"] = _number(given["margin"], f"{where}.margin", 0.0)
    if "worst_decile" in given:
        value = given["worst_decile"]
        found["worst_decile"] = None if value is None else _number(value, f"{where}.worst_decile", 0.0)
    if "negative_flips" in given:
        flips = given["negative_flips"]
        found.update(loss=None, share=None)
        if flips is not None:
            where = f"{where}.negative_flips"
            flips = _mapping(flips, where)
            _known(flips, ("loss", "share"), where)
            found["loss"] = _number(flips.get("loss", 0.05), f"{where}.loss", 0.0)
            found["share"] = _number(flips.get("share"), f"{where}.share", 0.0, 1.0)
    return found


def _more_is_better(name: str, given: Mapping[str, Any]) -> bool:
    if "better" in given:
        if given["better"] not in ("higher", "lower"):
            raise LifelongCTError(f"better: {given['better']!r}", f"metrics.{name}", "write higher or lower")
        return bool(given["better"] == "higher")
    if any(name.startswith(known) for known in (*_MORE, *_LESS)):
        return any(name.startswith(known) for known in _MORE)
    raise LifelongCTError(
        f"is more or less of {name} better?", f"metrics.{name}", "write better: higher, or better: lower"
    )


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise LifelongCTError(f"{value!r} is no mapping", where, "write key: value, as in acceptance.yaml")
    return dict(value)


def _known(given: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise LifelongCTError(
                f"unknown: {key!r}", where, f"{nearest(key, known)}there are {', '.join(known)}"
            )


def _number(value: Any, where: str, low: float, high: float = math.inf, above: bool = False) -> float:
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not right or (above and value == low) or not math.isfinite(value):
        between = f"from {low:g} to {high:g}" if high < math.inf else f"of {low:g} or more"
        raise LifelongCTError(f"{value!r}", where, f"write a number {between}")
    return float(value)


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 2:
        raise LifelongCTError(f"{value!r}", where, "write a whole number of 2 or more")
    return value


def _blocks(root: Mapping[str, Any], key: str) -> bool:
    value = root.get(key, "block")
    if value not in ("block", "allow"):
        raise LifelongCTError(f"{value!r}", key, "write block or allow")
    return bool(value == "block")


def _names(root: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    names = _list(root, key)
    if not all(isinstance(name, str) for name in names):
        raise LifelongCTError(f"{names!r}", key, "write a list of names")
    return tuple(names) or None


def _list(root: Mapping[str, Any], key: str) -> list[Any]:
    value = root.get(key) or []
    if not isinstance(value, list):
        raise LifelongCTError(f"{value!r}", key, "write a list, or leave it out")
    return value
