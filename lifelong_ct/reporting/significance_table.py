"""What is significant, as people read it: marks for a table's ACC column, and tables of their own."""

from __future__ import annotations

from typing import Any

from lifelong_ct.evaluation.statistics import Interval
from lifelong_ct.reporting.contenders import ALPHA, FEWEST
from lifelong_ct.reporting.significance import Judged, Verdicts, Versus
from lifelong_ct.reporting.text import UNDEFINED, number

BETTER, WORSE, ALIKE = "+", "-", "="
"""ASCII: they stand in LaTeX, too."""
HEADER = ("strategy", "ACC, 95 % interval", "over naive", "over the best", "rank", "note")
STRATA = ("strategy", "labels by", "patients", "ACC, 95 % interval")
Table = list[list[str]]


def mark(judged: Judged) -> str:
    """+ or -: better or worse than naive training; =: not shown to differ from the best. Empty where there is nothing
    to say."""
    text = {"better": BETTER, "worse": WORSE}.get(judged.baseline.mark if judged.baseline else "", "")
    return text + (ALIKE if judged.best and judged.best.mark == "not shown" else "")


def legend(verdicts: Verdicts) -> str:
    """What the marks mean, and how far the order can be trusted."""
    text = (
        f"Marks of ACC: {BETTER} better, {WORSE} worse than naive training; {ALIKE} not shown to differ from the best. "
        f"Tested over patients at {ALPHA:.0%} with Holm's correction over all pairs, and marked only where the interval "
        f"over seeds and patients leaves 0 out. Below {FEWEST} patients nothing is tested."
    )
    if verdicts.tau is not None:
        text += (
            f" Under other patients and seeds the order stays with Kendall's τ = {number(verdicts.tau, 2)}"
        )
        text += (
            ""
            if verdicts.agreement is None
            else f"; seeds agree on it with W = {number(verdicts.agreement, 2)}"
        )
        text += "."
    return text


def shown(verdicts: Verdicts) -> dict[str, Any]:
    """What a page shows of a section: legend, header and rows; the same per kind of label."""
    return {
        "legend": legend(verdicts),
        "header": HEADER,
        "rows": significance_table(verdicts),
        "strata_header": STRATA,
        "strata": strata_table(verdicts),
    }


def significance_table(verdicts: Verdicts) -> Table:
    """A row of `HEADER` per strategy."""
    return [
        [
            label,
            _interval(judged.interval),
            _versus(judged.baseline),
            _versus(judged.best),
            _rank(judged),
            judged.note,
        ]
        for label, judged in verdicts.rows.items()
    ]


def strata_table(verdicts: Verdicts) -> Table:
    """A row of `STRATA` per strategy and kind of label; empty where all cases have the same kind."""
    kinds = {kind for judged in verdicts.rows.values() for kind in judged.strata}
    if len(kinds) < 2:
        return []
    return [
        [label, kind, str(found.patients), _interval(found)]
        for label, judged in verdicts.rows.items()
        for kind, found in judged.strata.items()
    ]


def _interval(found: Interval) -> str:
    if found.low is None:
        return number(found.mean)
    return f"{number(found.mean)} [{number(found.low)}, {number(found.high)}]"


def _versus(versus: Versus | None) -> str:
    if versus is None:
        return UNDEFINED
    if versus.p is None:
        return f"{number(versus.difference, signed=True)}, too few patients to test"
    p = "p < 0.001" if versus.p < 0.001 else f"p = {versus.p:.3f}"
    return f"{number(versus.difference, signed=True)}, {p}: {versus.mark}"


def _rank(judged: Judged) -> str:
    rank = judged.rank
    return (
        UNDEFINED
        if rank is None
        else f"{rank.mean:.1f} [{rank.low:g}, {rank.high:g}], first {rank.first:.0%}"
    )
