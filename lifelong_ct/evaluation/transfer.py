"""Continual-learning measures of a result matrix R `[T+1, H]`.

R[i, h] is the score (more is better) on hospital h after experience i, row 0 before any training, NaN where
nothing was scored; h(i) is the hospital of experience i, T the last row. Terms with a missing score are
left out; a measure without terms is None, as most are for joint training, which has a last row only.

Where classes arrive one after another, a column is not a hospital but a task (`evaluation.tasks`): the organs that are
new in an experience, at the hospitals that can tell. An organ that nobody has annotated so far cannot be known; its
scores stand in the matrix as what they are, those of an empty prediction, but no measure counts them:

- R[i, h], i >= 1, is the mean over those organs of the task that were annotated in the experiences 1 … i, and missing
  where there are none. So ACC and the final mean of a stopped
  run are over what has been taught, and a task's first score is its own.
- FWT compares both rows over the same organs, those that were annotated before experience i. With disjoint classes there
  are none and FWT is None: a 0 would say that nothing was gained where nothing could be.

Between experiences a panel of cases may stand for a hospital (`evaluation.panel`), and a score may be defined in some rows
alone. What compares two rows (BWT, FWT, forgetting, retained) takes the cases that have a value in every row, organ by
organ; `paired` is R over these. docs/measures.md has it all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Columns = Sequence[int | None]


class Summary(TypedDict):
    """The measures of this file by name."""

    acc: float | None
    bwt: float | None
    fwt: float | None
    forgetting: float | None
    final_mean: float | None
    diagonal_mean: float | None
    retained: float | None
    generalisation: float | None
    unseen: float | None


def summarise(
    R: Matrix,
    columns: Columns,
    untrained: Matrix | None = None,
    final: Matrix | None = None,
    paired: Matrix | None = None,
    unseen: Matrix | None = None,
) -> Summary:
    """All measures.

    Args:
        R: float64 `[T+1, H]`.
        columns: for experience 1, 2, …, the column of its hospital, None where that has no test cases.
        untrained: `[H]`, what FWT starts from; R[0] where None.
        final: `[…]`, last scores on all hospitals, the unseen ones too; R[T] where None.
        paired: `[T+1, H]`, R over the cases that all rows share; R where None.
        unseen: `[…]`, last scores on the hospitals that no experience is of; the columns of none where None.
    """
    same = R if paired is None else paired
    never = sorted(set(range(R.shape[1])) - set(columns))
    return {
        "acc": accuracy(R, columns),
        "bwt": backward_transfer(same, columns),
        "fwt": forward_transfer(same, columns, untrained),
        "forgetting": forgetting(same, columns),
        "final_mean": mean_defined(R[-1] if final is None else final),
        "diagonal_mean": mean_defined(R[i, h] for i, h in _experiences(R, columns)),
        "retained": retained(same, columns),
        "generalisation": generalisation(R, columns),
        "unseen": mean_defined(R[-1, never] if unseen is None else unseen),
    }


def accuracy(R: Matrix, columns: Columns) -> float | None:
    """ACC: mean over trained hospitals of R[T, h] (Lopez-Paz & Ranzato 2017, arXiv 1706.08840, eq. 2)."""
    return mean_defined(R[-1, h] for h in dict.fromkeys(columns) if h is not None)


def backward_transfer(R: Matrix, columns: Columns) -> float | None:
    """BWT: mean over i < T of R[T, h(i)] − R[i, h(i)] (Lopez-Paz & Ranzato 2017, eq. 3)."""
    return mean_defined(R[-1, h] - R[i, h] for i, h in _experiences(R, columns) if i < _last(R))


def forward_transfer(R: Matrix, columns: Columns, untrained: Matrix | None = None) -> float | None:
    """FWT: mean over i > 1 of R[i−1, h(i)] − R[0, h(i)] (ibid., eq. 4; the baseline is the untrained row)."""
    start = R[0] if untrained is None else untrained
    return mean_defined(R[i - 1, h] - start[h] for i, h in _experiences(R, columns) if i > 1)


def forgetting(R: Matrix, columns: Columns) -> float | None:
    """Mean over i < T of max_{1 <= l < T} R[l, h(i)] − R[T, h(i)] (Chaudhry et al. 2018, arXiv 1801.10112, eq. 3).

    Negative where the last row is the best one.
    """
    terms = []
    for i, h in _experiences(R, columns):
        earlier = R[1:-1, h][~np.isnan(R[1:-1, h])]
        if i < _last(R) and earlier.size:
            terms.append(earlier.max() - R[-1, h])
    return mean_defined(terms)


def retained(R: Matrix, columns: Columns) -> float | None:
    """Mean over i < T of R[T, h(i)] / R[i, h(i)]: the share of what was learnt that is left. What was never learnt
    (a score of 0) is no term."""
    known = ((R[i, h], R[-1, h]) for i, h in _experiences(R, columns) if i < _last(R))
    return mean_defined(last / first for first, last in known if first > 0)


def generalisation(R: Matrix, columns: Columns) -> float | None:
    """Forward generalisability: mean over 1 <= i < j of R[i, h(j)], the score on hospitals that are still to come
    (Díaz-Rodríguez et al. 2018, arXiv 1810.13166, their FWT: the mean above the diagonal). It has no baseline: that is
    FWT's matter."""
    arrivals = list(enumerate(columns, start=1))
    return mean_defined(R[i, h] for j, h in arrivals if h is not None for i in range(1, min(j, len(R))))


def mean_defined(values: Iterable[float]) -> float | None:
    """Mean of what is not NaN; None where nothing is left."""
    known = [float(v) for v in values if not np.isnan(v)]
    return sum(known) / len(known) if known else None


def _last(R: Matrix) -> int:
    return len(R) - 1


def _experiences(R: Matrix, columns: Columns) -> list[tuple[int, int]]:
    """(i, h(i)) for the experiences that R has a row for and whose hospital has a column."""
    return [(i, h) for i, h in enumerate(columns, start=1) if h is not None and i <= _last(R)]
