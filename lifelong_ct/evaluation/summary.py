"""From a result matrix to its measures: which cells belong to which experience, over which cases."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lifelong_ct.evaluation.tasks import Task, seen_after
from lifelong_ct.evaluation.transfer import Summary, summarise

if TYPE_CHECKING:
    from lifelong_ct.evaluation.matrix import ResultMatrix

Among = Mapping[tuple[str, str], Collection[str]]
"""(Hospital, organ) → the cases that count; all of those that are not named."""
Row = tuple[str, Mapping[str, frozenset[str]]]
"""Hospital, and of each organ the cases with a value: one evaluation."""


def summary_of(
    matrix: ResultMatrix, tasks: Sequence[Task | str], metric: str = "dice", organ: str | None = None
) -> Summary:
    """See `ResultMatrix.summary`."""
    whole = whole_tasks(tasks)
    if organ is not None:
        whole = [task.of(organ) for task in whole]
    among = shared([matrix], metric)
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


def shared(moments: Iterable[ResultMatrix], metric: str = "dice") -> Among:
    """The cases on which all rows of a hospital can be compared, those with a value in each of them."""
    return in_all((h, row) for moment in moments for (_, h), row in moment.defined(metric).items())


def in_all(rows: Iterable[Row]) -> Among:
    """The cases that have a value whenever their hospital was scored: a Dice that is 0 in one row (an absent organ was
    predicted) and undefined in another (it no longer is) would move a mean without a difference of its own. What has
    the same cases each time is not named: nothing is to be left out."""
    groups: dict[str, list[Mapping[str, frozenset[str]]]] = defaultdict(list)
    for hospital, row in rows:
        groups[hospital].append(row)
    found = {}
    for hospital, each in groups.items():
        for organ in dict.fromkeys(organ for row in each for organ in row):
            cases = [row.get(organ, frozenset()) for row in each]
            if len(set(cases)) > 1:
                found[hospital, organ] = frozenset.intersection(*cases)
    return found


def task_table(
    matrix: ResultMatrix, tasks: Sequence[Task], metric: str = "dice", among: Among | None = None
) -> npt.NDArray[np.float64]:
    """R of `evaluation.transfer`.

    Args:
        matrix: scores.
        tasks: its columns.
        metric: name.
        among: the cases that count; all where None.

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
