"""The model card of a new model, from its run and its comparison (Mitchell et al. 2019, arXiv 1810.03993)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lifelong_ct.core.types import UNKNOWN
from lifelong_ct.evaluation.acceptance import Judgement
from lifelong_ct.evaluation.acceptance_cell import Cell
from lifelong_ct.evaluation.acceptance_rules import Rules
from lifelong_ct.evaluation.noninferiority import ASSUMPTION, unseen_failures
from lifelong_ct.evaluation.resampling import patient_of
from lifelong_ct.evaluation.statistics import bootstrap_interval
from lifelong_ct.reporting.acceptance_record import Scored
from lifelong_ct.reporting.contenders import FEWEST
from lifelong_ct.reporting.text import caveats, number, plural

TO_FILL = "**[ to be filled in by the hospital ]**"
_SENTENCES = {
    "accepted": "is not worse than the old one under the rules below",
    "blocked": "must not replace the old one under the rules below",
    "undecided": "cannot be judged everywhere: some places have too few patients",
}


def model_card(old: Scored, new: Scored, rules: Rules, judgement: Judgement) -> str:
    """Markdown. What only the hospital knows is marked as such; no patient, no path."""
    parts = [
        f"# Model card: {_plain(new.name)}",
        f"**{judgement.decision.upper()}**: the model {_SENTENCES[judgement.decision]}.",
        "## Intended use",
        f"- Purpose: {TO_FILL}\n- Users: {TO_FILL}\n- Not to be used for: {TO_FILL}\n- Responsible: {TO_FILL}",
        "A score on test cases is no clinical evidence; this card replaces no conformity assessment.",
        "## Training",
        _listed(_training(new)),
        "## Scores on test cases",
        f"Means over patients with 95 % bootstrap intervals; none below {FEWEST} patients. "
        f"The old model is {_plain(old.name)}. Test scans by kind of label: {_kinds(new)}.",
        _scores(new, judgement),
        "## Comparison with the old model",
        _listed(_comparison(rules, judgement)),
        "## Limits",
        _listed(_limits(new, judgement)),
    ]
    return "\n\n".join(parts) + "\n"


def _training(new: Scored) -> list[str]:
    if not new.results:
        return [f"Only a table of cases was given; how the model was trained: {TO_FILL}"]
    info, results = new.info, new.results
    scans = "drawn by a program: no patient is in them" if info.get("synthetic") else "of patients"
    return [
        f"Hospitals, in the order of training: {_names(results.get('hospitals'))}",
        f"Scored, never trained on: {_names(results.get('unseen'))}",
        f"Organs: {_names(results.get('organs'))}",
        f"Training scans: {info.get('training_cases', '?')}, {scans}",
        f"Labels, of training and test: {_names(info.get('label_kinds'))}",
        f"Strategy {info.get('strategy', '?')}, stream {info.get('stream', '?')}, seed {info.get('seed', '?')}, "
        f"configuration {info.get('config_hash', '?')}",
    ]


def _scores(new: Scored, judgement: Judgement) -> str:
    rows = [["hospital", "organ", "metric", "patients", "score", "old", "gain", "decision"]]
    for cell in judgement.cells:
        rows.append(
            [
                *(_plain(text) for text in (cell.hospital, cell.organ, cell.metric)),
                str(cell.patients),
                _score(new, cell),
                number(cell.old),
                number(cell.gain, signed=True),
                cell.decision,
            ]
        )
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _kinds(new: Scored) -> str:
    last = new.matrix.last
    scans = {(row.hospital, row.case): row.label_kind for row in new.matrix.rows() if row.after == last}
    counted = Counter(kind or UNKNOWN for kind in scans.values())
    return ", ".join(f"{_plain(kind)} {count}" for kind, count in sorted(counted.items()))


def _score(new: Scored, cell: Cell) -> str:
    """Of all patients that the new model is scored on, the old one's or not."""
    cases = new.matrix.cases(new.matrix.last, cell.hospital, cell.organ, cell.metric)
    people = [patient_of(new.matrix, cell.hospital, case)[1] for case in cases]
    found = bootstrap_interval(list(cases.values()), people, resamples=2000)
    if found.patients < FEWEST:
        return f"{number(found.mean)} ({plural(found.patients, 'patient')}: no interval)"
    return f"{number(found.mean)} [{number(found.low)}, {number(found.high)}]"


def _comparison(rules: Rules, judgement: Judgement) -> list[str]:
    lines = [
        f"Level {rules.alpha:g}; at least {rules.minimum_patients} patients per hospital and organ; margins "
        + ", ".join(f"{name} {limits.margin:g}" for name, limits in rules.metrics.items())
        + (f", and {plural(len(rules.exceptions), 'exception')}" if rules.exceptions else "")
    ]
    lines += map(_plain, judgement.told())
    if judgement.only_new:
        lines.append(f"Not compared, since only the new model has scores: {_names(judgement.only_new)}")
    return lines


def _limits(new: Scored, judgement: Judgement) -> list[str]:
    fewest = min(cell.patients for cell in judgement.cells)
    lines = [
        *caveats(new.info),
        f"Where the fewest patients were compared ({fewest}), a failure that befalls {unseen_failures(fewest):.0%} of "
        "patients can stay unseen (with a chance of 5 %)",
        ASSUMPTION,
        "Other hospitals, scanners, contrast phases and diseases than those of the test cases were not looked at",
        "Test cases that have been used to choose between models flatter the one that was chosen",
        f"Known failures in use: {TO_FILL}",
    ]
    return [line.rstrip(".") for line in lines]


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _names(values: Iterable[object] | None) -> str:
    return ", ".join(_plain(str(value)) for value in values or ()) or "none"


def _plain(text: str) -> str:
    """No table or markup from a name."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("`", "'")
