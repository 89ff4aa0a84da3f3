"""Numbers and sentences that console, page and tables share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong_ct.core.units import format_bytes

if TYPE_CHECKING:
    from lifelong_ct.evaluation.matrix import ResultMatrix

UNDEFINED = "–"
FEW_TESTS = 10
"""Test cases of a hospital below which intervals are a sketch."""
FEW_CASES = 30
"""Fewer training cases than this show a working pipeline, not science."""
MEASURES = {
    "acc": "ACC",
    "bwt": "BWT",
    "fwt": "FWT",
    "forgetting": "forgetting",
    "final_mean": "final mean",
    "diagonal_mean": "when learnt",
    "retained": "retained",
    "generalisation": "before trained",
    "unseen": "never trained",
    "min_acc": "min-ACC",
    "wc_acc": "WC-ACC",
    "worst_forgetting": "worst fall",
}
"""Keys of `summary` and `stability`, as people call them."""
MEANINGS = {
    "acc": "mean score on the trained hospitals at the end",
    "bwt": "change on earlier hospitals since each was learnt; below 0 is forgetting",
    "fwt": "gain on a hospital before it was trained on, over the untrained network",
    "forgetting": "best score a hospital ever had, minus the one at the end",
    "final_mean": "mean at the end over all hospitals, the unseen ones too",
    "diagonal_mean": "mean score on each hospital right after it was learnt",
    "retained": "share of that which is left at the end, over the earlier hospitals",
    "generalisation": "mean score on hospitals while they are still to come",
    "unseen": "mean score at the end on hospitals that are never trained on",
    "min_acc": "lowest score of a hospital since it was learnt, within experiences too",
    "wc_acc": "that, with the score of the last hospital: the least that was there at any time",
    "worst_forgetting": "largest fall of a hospital's score since it was learnt, within experiences too",
}
_SIGNED = ("bwt", "fwt")
_OURS = re.compile(r"runs|demo|report|(?:report|comparison)\.html|[\w.-]+-s-?\d+-[0-9a-f]{8}")
"""Names of folders and files that we give: defaults of `paths.runs`, run folders, pages."""


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """0.5 → `0.500`; None → a dash."""
    if value is None or value != value:
        return UNDEFINED
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "", 1) if float(text) == 0 and not signed else text


def measure(name: str, value: float | None) -> str:
    """A value of `summary`, with its sign where the sign is the message."""
    return number(value, signed=name in _SIGNED)


def measures(summary: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """(key, value) of a `summary`, in the order of `MEASURES`; what means nothing without BWT is a dash."""
    told = {k: v for k, v in summary.items() if k in MEASURES}
    if told.get("bwt") is None and "diagonal_mean" in told:
        told["diagonal_mean"] = None
    return [(key, measure(key, told[key])) for key in MEASURES if key in told]


def size(nbytes: float | None) -> str:
    """Bytes for people; a dash for None."""
    return UNDEFINED if nbytes is None else format_bytes(nbytes)


def stored(memory: Mapping[str, int | None]) -> str:
    """Bytes really held at the peak of one kind; a dash where nobody who reserved some told them."""
    return size(None if memory.get("peak") and not memory.get("used") else memory.get("used"))


def duration(seconds: float | None) -> str:
    """75 → `1 min 15 s`; 0.42 → `0.4 s`."""
    if seconds is None:
        return UNDEFINED
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def times(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(kind of work, how long), evaluation with its share of the whole."""
    share = results.get("evaluation_share")
    told = "" if share is None else f" ({100 * share:.0f} %)"
    seconds = results.get("seconds") or {}
    return [
        (k, duration(v) + (told if k == "evaluation" else "")) for k, v in seconds.items() if v is not None
    ]


def shown_path(path: Path, watched: bool) -> str:
    """A path, relative where it stands below the present folder, in full where a person is watching. Elsewhere the
    output is a log and folders may be named after patients, so only names that we gave are shown."""
    with suppress(ValueError):
        path = path.resolve().relative_to(Path.cwd())
    if watched:
        return str(path)
    ours = [part if _OURS.fullmatch(part) else "…" for part in path.parts]
    first = next((i for i, part in enumerate(ours) if part != "…"), len(ours))
    return "/".join([*(["…"] if first else []), *ours[first:]])


def plural(count: int, word: str) -> str:
    """(1, "seed") → `1 seed`; (2, "seed") → `2 seeds`; (2, "strategy") → `2 strategies`."""
    many = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{count} {word if count == 1 else many}"


def arrived(hospitals: Sequence[str], learnt: Sequence[str]) -> str:
    """`3 hospitals`, or `4 experiences` where they are something else than a hospital each."""
    whole = list(hospitals) == list(learnt) or not learnt
    return plural(len(hospitals), "hospital") if whole else plural(len(learnt), "experience")


def caveats(run: Mapping[str, Any]) -> list[str]:
    """What must be read beside the numbers of a run (`run` of results.json)."""
    kinds = list(run.get("label_kinds") or [])
    cases = run.get("training_cases")
    if run.get("synthetic"):
        return ["Synthetic: the scans are drawn, no patient is in them. The numbers compare methods."]
    few = cases is not None and cases < FEW_CASES
    made = "model" in kinds
    if not few and not made:
        return []
    many = "A handful of scans" if few else "Scans"
    whose = (
        ""
        if not made
        else " with labels made by models"
        if kinds == ["model"]
        else ", some labels made by models"
    )
    return [
        f"{many}{whose}: " + ("a working pipeline, not science." if few else "read the scores with that.")
    ]


def few_tests(matrix: ResultMatrix) -> list[str]:
    """A warning where hospitals are scored on so few cases that their intervals mean little."""
    counts = {name: len(matrix.cases(matrix.last, name)) for name in matrix.hospitals}
    few = {name: count for name, count in counts.items() if count < FEW_TESTS}
    if not few:
        return []
    low, high = min(few.values()), max(few.values())
    many = plural(high, "test case") if low == high else f"{low} to {high} test cases"
    whose = "every hospital" if len(few) == len(counts) else ", ".join(few)
    return [
        f"Few test cases: {whose}, {many} each. Intervals over so few are too narrow; trust no small difference."
    ]


def sentence(results: Mapping[str, Any]) -> str:
    """What was run and what came out, for somebody who reads nothing else."""
    run, summary = results.get("run", {}), results.get("summary") or {}
    hospitals = results.get("hospitals") or []
    ran = {
        "finished": "learnt", "running": "is learning", "stopped": "was stopped while learning",
        "failed": "failed while learning", "refused": "was refused for",
    }.get(str(results.get("status")), "learnt")  # fmt: skip
    learnt = [str(task["name"]) for task in results.get("tasks") or ()]
    text = (
        f"The strategy {run.get('strategy', '?')} {ran} {arrived(hospitals, learnt)} of the stream "
        f"{run.get('stream', '?')}, seed {run.get('seed', '?')}."
    )
    if summary.get("acc") is None:
        return text
    text += f" Mean Dice on the hospitals it was trained on is {number(summary['acc'])} at the end"
    bwt = summary.get("bwt")
    if bwt is None:
        return f"{text}."
    if abs(bwt) < 0.005:
        return f"{text}; earlier hospitals kept what they had."
    return f"{text}; earlier hospitals {'lost' if bwt < 0 else 'gained'} {number(abs(bwt))} on average."


def table(rows: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Lines with aligned columns: the first to the left, the others to the right."""
    if not rows:
        return []
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    adjust: list[Callable[[str, int], str]] = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    return [
        gap.join(put(cell, width) for put, cell, width in zip(adjust, row, widths, strict=True)).rstrip()
        for row in rows
    ]
