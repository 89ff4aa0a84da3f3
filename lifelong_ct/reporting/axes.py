"""The axes of a comparison that are not in its first table: what is learnt beside references, and at which price."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lifelong_ct.evaluation.costs import costs
from lifelong_ct.evaluation.reference import intransigence, plasticity, plasticity_ratio
from lifelong_ct.evaluation.stability import stability
from lifelong_ct.reporting.comparison import Row, Section, spread
from lifelong_ct.reporting.references import alone, differing, nearest, together
from lifelong_ct.reporting.run_folder import Run
from lifelong_ct.reporting.text import UNDEFINED, number, size

AXES = {
    "plasticity": "plasticity",
    "plasticity_ratio": "… as a ratio",
    "intransigence": "intransigence",
    "generalisation": "before trained",
    "unseen": "never trained",
    "min_acc": "min-ACC",
    "wc_acc": "WC-ACC",
    "worst_forgetting": "worst fall",
    "parameters": "parameters",
    "growth": "growth",
    "size_efficiency": "MS",
    "held_bytes": "held",
    "seen_again": "seen again",
    "steps": "steps",
    "cpu_seconds": "CPU s",
    "cpu_of_naive": "CPU / naive",
    "time_of_naive": "time / naive",
}
"""Columns, as people call them; docs/measures.md defines each."""
REFERENCES = ("plasticity", "intransigence")
SIGNED = ("plasticity", "intransigence")
EXPLAINED = (
    "Plasticity: score when learnt, minus that of a model trained on the hospital alone. Intransigence: score of a model "
    "trained on all hospitals so far together, minus score when learnt. Before trained, never trained: mean score on "
    "hospitals that are still to come, or never do. Min-ACC, WC-ACC, worst fall: the lowest and the largest fall within "
    "experiences, with evaluation.within. Growth: parameters at the end over those after the first experience; MS their "
    "efficiency. Seen again: patches trained on again per new one. CPU and time of training over those of naive: they "
    "depend on the machine and on who else is there. docs/measures.md has the formulas."
)


def axes_of(run: Run, runs: Sequence[Run]) -> tuple[dict[str, float | None], dict[str, str]]:
    """Values of one run by axis, and which reference was used.

    Args:
        run: whose.
        runs: among which its references are; runs of naive training among them.
    """
    summary, references = run.results.get("summary") or {}, {"plasticity": alone(run, runs)}
    references["intransigence"] = together(run, runs)
    apart, joint = (references[name] for name in REFERENCES)
    values: dict[str, float | None] = {
        "plasticity": plasticity(apart.pairs) if apart else None,
        "plasticity_ratio": plasticity_ratio(apart.pairs) if apart else None,
        "intransigence": intransigence(joint.pairs) if joint else None,
        "generalisation": summary.get("generalisation"),
        "unseen": summary.get("unseen"),
        **_within(run),
        **costs(run.results.get("experiences") or ()),  # type: ignore[dict-item]
        "cpu_seconds": _training(run, "cpu_seconds"),
        "cpu_of_naive": _of_naive(run, runs, "cpu_seconds"),
        "time_of_naive": _of_naive(run, runs, "seconds"),
    }
    return values, {name: each.label if each else "" for name, each in references.items()}


def axes_csv(sections: Iterable[Section], runs: Sequence[Run]) -> str:
    """One line per method: mean, sd and n over seeds of every axis, and the references."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = [f"{name}_{part}" for name in AXES for part in ("mean", "sd", "n")]
    named = [f"{name}_reference" for name in REFERENCES]
    writer.writerow(["stream", "hospitals", "label", "strategy", *parts, *named])
    for section in sections:
        for row in section.rows:
            spreads, references = _row(row, runs)
            numbers = [
                value
                for each in spreads.values()
                for value in (_full(each.mean), _full(each.sd), len(each.values))
            ]
            who = [section.stream, " ".join(section.hospitals), row.label, row.strategy]
            writer.writerow([*who, *numbers, *(references[name] for name in REFERENCES)])
    return text.getvalue()


def axes_table(section: Section, runs: Sequence[Run]) -> dict[str, Any] | None:
    """What the page shows of a section: header, rows and what the columns mean; axes that no row has are left out."""
    found = [(row, *_row(row, runs)) for row in section.rows]
    names = [name for name in AXES if any(spreads[name].mean is not None for _, spreads, _ in found)]
    if not names:
        return None
    return {
        "header": ["strategy", *(AXES[name] for name in names)],
        "rows": [[row.label, *(_shown(n, spreads[n].mean) for n in names)] for row, spreads, _ in found],
        "references": [
            f"{row.label}: {name} against {references[name]}"
            for row, _, references in found
            for name in REFERENCES
            if references[name]
        ],
        "explained": EXPLAINED,
    }


def _row(row: Row, runs: Sequence[Run]) -> tuple[dict[str, Any], dict[str, str]]:
    found = [axes_of(run, runs) for run in row.runs]
    spreads = {name: spread(values[name] for values, _ in found) for name in AXES}
    labels = {
        name: "; ".join(dict.fromkeys(told[name] for _, told in found if told[name])) for name in REFERENCES
    }
    return spreads, labels


def _within(run: Run) -> Mapping[str, float | None]:
    if not run.matrix.within:
        return dict.fromkeys(("min_acc", "wc_acc", "worst_forgetting"))
    return dict(stability(run.matrix, list(run.tasks.values())))  # type: ignore[arg-type]


def _training(run: Run, kind: str) -> float | None:
    return (run.results.get(kind) or {}).get("training")


def _of_naive(run: Run, runs: Sequence[Run], kind: str) -> float | None:
    """Over that of naive training on the same hospitals in the same way: of the same seed, else the mean of all seeds.

    Ten times as many steps would say nothing of the strategy, so a naive run that was trained otherwise is no base.
    """
    tasks, own = list(run.tasks.values()), _training(run, kind)
    naive = [
        (r, 0)
        for r in runs
        if r.info.get("strategy") == "naive" and list(r.tasks.values()) == tasks and not differing(run, r)
    ]
    base = spread(_training(r, kind) for r, _ in nearest(run, naive)).mean
    return own / base if own is not None and base else None


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return UNDEFINED
    if name == "held_bytes":
        return size(value)
    if name in ("parameters", "steps"):
        return f"{value:,.0f}"
    if name in ("cpu_seconds", "cpu_of_naive", "time_of_naive", "growth", "seen_again"):
        return number(value, 2)
    return number(value, signed=name in SIGNED)


def _full(value: float | None) -> str:
    return "" if value is None else repr(value)
