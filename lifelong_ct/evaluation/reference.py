"""Measures of plasticity: what a model learns of a hospital, beside what another model learnt of it.

They need a second run. Both scores of a pair are over the cases that have a value in both runs, of the organs that were
annotated so far. The first experience is no term: nothing came before it that could hinder or help.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lifelong_ct.evaluation.summary import in_all
from lifelong_ct.evaluation.tasks import Task, seen_after

if TYPE_CHECKING:
    from lifelong_ct.evaluation.matrix import ResultMatrix

Pair = tuple[float, float]
"""Score when learnt, score of the reference."""


def pair(
    matrix: ResultMatrix,
    tasks: Sequence[Task],
    i: int,
    other: ResultMatrix,
    after: int,
    metric: str = "dice",
    other_metric: str = "dice",
) -> Pair | None:
    """R[i, h(i)] and the reference's score of the same task.

    Args:
        matrix: of the run.
        tasks: of its experiences.
        i: experience, from 1.
        other: of the reference.
        after: row of `other`.
        metric: of the run.
        other_metric: of the reference.

    Returns:
        None where they share no case, or one has no score.
    """
    task, seen = tasks[i - 1], seen_after(tasks, i)
    rows = ((i, matrix.defined(metric)), (after, other.defined(other_metric)))
    among = in_all((h, cells.get((row, h), {})) for h in task.hospitals for row, cells in rows)
    mine = matrix.task_value(i, task, seen, metric, among)
    theirs = other.task_value(after, task, seen, other_metric, among)
    return None if mine is None or theirs is None else (mine, theirs)


def plasticity(pairs: Iterable[Pair]) -> float | None:
    """Mean over i > 1 of R[i, h(i)] − S[h(i)], where S is of a model trained on hospital h(i) alone, from scratch (Wang et
    al. 2024, arXiv 2302.00487, section 2.3, there called FWT). Above 0 the past has helped; below, the method could learn
    less than it was shown."""
    return _mean(mine - alone for mine, alone in pairs)


def plasticity_ratio(pairs: Iterable[Pair]) -> float | None:
    """Mean over i > 1 of R[i, h(i)] / S[h(i)]; what the reference did not learn (0) is no term."""
    return _mean(mine / alone for mine, alone in pairs if alone > 0)


def intransigence(pairs: Iterable[Pair]) -> float | None:
    """Mean over i > 1 of J_i[h(i)] − R[i, h(i)], where J_i is of a model trained on the hospitals 1 … i together
    (Chaudhry et al. 2018, arXiv 1801.10112, their I_k). Above 0 the method could not learn what was there."""
    return _mean(together - mine for mine, together in pairs)


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
