"""From a result matrix to its measures: which cells belong to which experience, over which cases."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lifelong_ct.evaluation.tasks import Task, seen_after
from lifelong_ct.evaluation.transfer import Summary, summarise

if TYPE_CHECKING:
    from lifelong_ct.evaluation.matrix import ResultMatrix

Among = Mapping[str, Collection[str]]


def summary_of(
    matrix: ResultMatrix, tasks: Sequence[Task | str], metric: str = "dice", organ: str | None = None
) -> Summary:
    """See `ResultMatrix.summary`."""
    whole = whole_tasks(tasks)
    if organ is not None:
        whole = [task.of(organ) for task in whole]
    among = shared(matrix)
    untrained = [
        matrix.task_value(0, task, seen_after(whole, j), metric, among) for j, task in enumerate(whole)
    ]
    taught = None if any(t.organs is None for t in whole) else tuple(sorted(seen_after(whole, matrix.last)))
    final = {h: matrix.mean_over(matrix.last, h, taught, metric) for h in matrix.hospitals}
    own = {hospital for task in whole for hospital in task.hospitals}
    never = [value for hospital, value in final.items() if hospital not in own]
    return summarise(
        task_table(matrix, whole, metric),
        range(len(whole)),
        numbers([untrained], len(whole))[0],
        numbers([list(final.values())], len(final))[0],
        task_table(matrix, whole, metric, among) if among else None,
        numbers([never], len(never))[0],
    )


def shared(matrix: ResultMatrix) -> dict[str, frozenset[str]]:
    """Hospital → the cases that were scored whenever any of it were, within experiences too: what two rows can be
    compared on. Hospitals of which the same cases were scored each time are not listed: nothing is to be left out."""
    groups: dict[str, list[frozenset[str]]] = {}
    for moment in (matrix, *matrix.within.values()):
        for (_, hospital), cases in moment.scored_cases().items():
            groups.setdefault(hospital, []).append(cases)
    common = {hospital: frozenset.intersection(*each) for hospital, each in groups.items()}
    return {h: common[h] for h, each in groups.items() if any(common[h] != cases for cases in each)}


def task_table(
    matrix: ResultMatrix, tasks: Sequence[Task], metric: str = "dice", among: Among | None = None
) -> npt.NDArray[np.float64]:
    """R of `evaluation.transfer`.

    Args:
        matrix: scores.
        tasks: its columns.
        metric: name.
        among: hospital → the cases that count; all of hospitals that are not named.

    Returns:
        float64 `[T+1, len(tasks)]`: row i over the organs that were annotated in the experiences 1 … i, row 0 over all
        of a task; NaN where nothing was scored.
    """
    seen = [None, *(seen_after(tasks, after) for after in range(1, matrix.last + 1))]
    rows = [
        [matrix.task_value(after, task, organs, metric, among) for task in tasks]
        for after, organs in enumerate(seen)
    ]
    return numbers(rows, len(tasks))


def whole_tasks(tasks: Sequence[Task | str]) -> list[Task]:
    """A name stands for a hospital with all its organs."""
    return [task if isinstance(task, Task) else Task((task,)) for task in tasks]


def numbers(rows: Sequence[Sequence[float | None]], width: int) -> npt.NDArray[np.float64]:
    """float64 `[rows, width]`, NaN where there is none."""
    known = [[math.nan if value is None else value for value in row] for row in rows]
    return np.array(known, dtype=np.float64).reshape(len(rows), width)
