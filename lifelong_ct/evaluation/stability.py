"""What happens within experiences: measures of the stability gap.

De Lange, van de Ven & Tuytelaars, "Continual evaluation for lifelong learning: identifying the stability gap", ICLR 2023
(arXiv 2205.13452), section 3. Right after training on a hospital begins, scores on the earlier ones may fall and come
back: rows at the ends of experiences do not see it, scores within do (`evaluation.within`).

A(h, n) is the score of experience h's task at the n-th evaluation, within experiences and at their ends in the order of
time, each over the cases that have a value in all of them; n(h) is the one at the end of experience h. A task that was not scored
then is no term: joint training learns all at its end, and nothing before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypedDict

from lifelong_ct.evaluation.summary import shared, whole_tasks
from lifelong_ct.evaluation.tasks import Task, seen_after
from lifelong_ct.evaluation.transfer import mean_defined

if TYPE_CHECKING:
    from lifelong_ct.evaluation.matrix import ResultMatrix


class Stability(TypedDict):
    """The measures of this file by name."""

    min_acc: float | None
    wc_acc: float | None
    worst_forgetting: float | None


def stability(matrix: ResultMatrix, tasks: Sequence[Task | str], metric: str = "dice") -> Stability:
    """All measures, up to the last row.

    Args:
        matrix: scores.
        tasks: as in `ResultMatrix.summary`.
        metric: one of which more is better.
    """
    whole = whole_tasks(tasks)
    lines = [trajectory(matrix, whole, j, metric) for j in range(1, min(matrix.last, len(whole)) + 1)]
    earlier = [known for line in lines[:-1] if line[0] is not None and len(known := _known(line)) > 1]
    lowest, present = mean_defined(min(line[1:]) for line in earlier), lines[-1][0] if lines else None
    return {
        "min_acc": lowest,
        "wc_acc": worst_case(lowest, present, len(earlier) + 1) if earlier or len(lines) == 1 else None,
        "worst_forgetting": mean_defined(map(largest_fall, earlier)),
    }


def trajectory(
    matrix: ResultMatrix, tasks: Sequence[Task], j: int, metric: str = "dice"
) -> list[float | None]:
    """A(j, n) for n = n(j), n(j) + 1, …; None where the task was not scored."""
    among = shared([matrix, *matrix.within.values()], metric)
    moments = [(after, step, moment) for (after, step), moment in matrix.within.items() if after > j]
    ends = [(after, float("inf"), matrix) for after in range(j, matrix.last + 1)]
    seen = {after: seen_after(tasks, after) for after in range(j, len(tasks) + 1)}
    return [
        moment.task_value(after, tasks[j - 1], seen.get(after), metric, among)
        for after, _, moment in sorted([*moments, *ends], key=lambda each: each[:2])
    ]


def worst_case(min_acc: float | None, present: float | None, experiences: int) -> float | None:
    """WC-ACC: 1/T A(T, n(T)) + (1 − 1/T) min-ACC, the least that was there at any time beside what was learnt last; the
    score alone where there was nothing before."""
    if present is None or min_acc is None:
        return present if experiences == 1 else None
    return present / experiences + (1 - 1 / experiences) * min_acc


def largest_fall(line: Sequence[float]) -> float:
    """max over m < n of A(h, m) − A(h, n): their windowed forgetting, of which the window is all of the time since the
    task was learnt. Below 0 where the score only rose."""
    best, fall = line[0], float("-inf")
    for value in line[1:]:
        fall, best = max(fall, best - value), max(best, value)
    return fall


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
