"""How sure an order of strategies is: ranks under resampling, and how far seeds agree on them.

As in challengeR (Wiesenfarth et al. 2021, Sci. Rep. 11:2369, doi:10.1038/s41598-021-82017-6): the whole ranking is made
again for every bootstrap sample of patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from lifelong_ct.core.errors import LifelongCTError


@dataclass(frozen=True)
class Rank:
    """Of one strategy; 1 is the best.

    Attributes:
        whole: rank on all patients.
        mean, low, high: over the draws, with the 95 % interval.
        first: share of the draws in which it is first, ties among the first included.
    """

    whole: float
    mean: float
    low: float
    high: float
    first: float


@dataclass(frozen=True)
class Stability:
    """Of an order.

    Attributes:
        ranks: of each strategy.
        tau: Kendall's τ-b between the order on all patients and that of a draw, mean over draws; 1: always the same.
            None where all are always tied.
    """

    ranks: tuple[Rank, ...]
    tau: float | None


def stability(draws: npt.NDArray[np.float64]) -> Stability:
    """Ranks under resampling.

    Args:
        draws: float64 `[1 + B, K]`, scores of K strategies (more is better), first on all patients, then of each
            bootstrap sample. A sample in which one has no score is left out.

    Raises:
        LifelongCTError: fewer than two strategies, or no sample.
    """
    if draws.ndim != 2 or draws.shape[1] < 2:
        raise LifelongCTError("there is nothing to rank", "ranking", "give two strategies or more")
    known = draws[~np.isnan(draws).any(axis=1)]
    if len(known) < 2 or np.isnan(draws[0]).any():
        raise LifelongCTError(
            "no sample has every score", "ranking", "score all strategies on the same cases"
        )
    ranks = stats.rankdata(-known, axis=1)
    low, high = np.quantile(ranks[1:], [0.025, 0.975], axis=0)
    first = (ranks[1:] == ranks[1:].min(axis=1, keepdims=True)).mean(axis=0)
    tau = _tau(ranks[0], ranks[1:])
    sure = tau[~np.isnan(tau)]
    each = zip(ranks[0], ranks[1:].mean(axis=0), low, high, first, strict=True)
    return Stability(tuple(Rank(*map(float, row)) for row in each), float(sure.mean()) if len(sure) else None)


def _tau(whole: npt.NDArray[np.float64], ranks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Kendall's τ-b of `[K]` with each row of `[B, K]`, as `scipy.stats.kendalltau` gives it one by one; NaN where one
    ties everything."""
    one, other = np.triu_indices(len(whole), 1)
    own, drawn = np.sign(whole[one] - whole[other]), np.sign(ranks[:, one] - ranks[:, other])
    pairs = np.abs(own).sum() * np.abs(drawn).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(drawn @ own / np.sqrt(pairs))


def kendall_w(scores: Sequence[Sequence[float]]) -> float | None:
    """Kendall's coefficient of concordance of m raters (seeds) on K items (strategies), with ties.

    W = 12 S / (m² (K³ − K) − m ΣT), S the sum of squared deviations of the rank sums from their mean, T = Σ (t³ − t)
    over the groups of t ties of a rater (Kendall & Babington Smith 1939, Ann. Math. Stat. 10:275-287; Siegel &
    Castellan 1988, ch. 9.4). 1: all raters rank alike; 0: they have nothing in common.

    Args:
        scores: `[m, K]`, more is better.

    Returns:
        None for fewer than two raters or items, or where every rater ties everything.
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 2 or min(values.shape) < 2:
        return None
    m, k = values.shape
    ranks = stats.rankdata(-values, axis=1)
    sums = ranks.sum(axis=0)
    ties = sum(int(t) ** 3 - int(t) for row in ranks for t in np.unique(row, return_counts=True)[1])
    below = m**2 * (k**3 - k) - m * ties
    return float(12 * ((sums - sums.mean()) ** 2).sum() / below) if below else None
