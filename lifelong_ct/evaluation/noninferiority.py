"""Is a model no worse than another by more than a margin, on the mean over patients?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from lifelong_ct.core.errors import LifelongCTError

METHOD = (
    "one-sided paired test over patients of H0: mean gain <= -margin; the larger p of Student's t and of the t "
    "corrected for skewness (Hall 1992); Holm over all cells"
)
ASSUMPTION = (
    "The test knows what the patients show: failures too rare to be among them are not in it, and no test of a mean "
    "can exclude them from few patients"
)
_EQUAL = 1e-12


class NonInferiority(NamedTuple):
    """A test of non-inferiority.

    Attributes:
        p: chance of such a sample, or a better one, from a model that is worse by exactly the margin.
        bound: gains below it are excluded at the level of the test, without correction for many tests.
        p_t: of Student's t alone.
        skewness: of the gains, unbiased; below 0 a few lose much. 0 for two gains.
    """

    p: float
    bound: float
    p_t: float
    skewness: float


def non_inferiority(
    gains: Sequence[float] | npt.NDArray[np.float64], margin: float, alpha: float = 0.05
) -> NonInferiority:
    """Rejects "the mean gain is −margin or less" where Student's t does, corrected for skewness too.

    Gains are skewed where a few patients lose much. Samples without these look good and sure at once, so that t alone
    accepts two to five times as often as it says. With U = (mean + margin) / s and skewness γ, Hall's transformation
    h = U + γU²/3 + γ²U³/27 + γ/(6n) removes the skewness from √n U (Hall 1992, J. R. Stat. Soc. B 54:221-228, eq. 3; for
    one-sided intervals Zhou & Gao 2000, Am. Stat. 54:100-104). √n h is compared with Student's t of n − 1 degrees, where
    it is below √n U. Of n draws from a skewed distribution the sample shows but a part: γ is the unbiased estimate times
    1 + 10/n, which makes up for that of an exponential one. `docs/statistics.md` has the simulated errors.

    Args:
        gains: new − old, one per patient, more is better.
        margin: what may be lost, 0 or more, in the unit of the gains.
        alpha: of `bound`.

    Raises:
        LifelongCTError: fewer than two gains, one that is not finite, or a negative margin.
    """
    x = np.asarray(gains, np.float64)
    n = len(x)
    if n < 2 or not np.isfinite(x).all() or not margin >= 0:
        raise LifelongCTError(
            f"{n} gains, margin {margin}", "non-inferiority", "give two finite gains or more, margin >= 0"
        )
    mean, spread = float(x.mean()), float(x.std(ddof=1))
    if spread < _EQUAL:
        p = 0.0 if mean + margin > _EQUAL else 1.0
        return NonInferiority(p, mean, p, 0.0)
    shown = _skewness(x)
    skewness = shown * (1 + 10 / n)
    u = (mean + margin) / spread
    quantile = float(special.stdtrit(n - 1, 1 - alpha)) / math.sqrt(n)
    reach = max(quantile, _hall_inverse(quantile, skewness, n))
    p, p_t = (float(special.stdtr(n - 1, -math.sqrt(n) * v)) for v in (min(u, _hall(u, skewness, n)), u))
    return NonInferiority(p, mean - spread * reach, p_t, shown)


def unseen_failures(patients: int, chance: float = 0.05) -> float:
    """The largest share of patients that could fail without one among n seen: 1 − chance^(1/n), near 3/n
    (Hanley & Lippman-Hand 1983, JAMA 249:1743-1745)."""
    return 1.0 - float(chance ** (1 / patients)) if patients else 1.0


def _skewness(x: npt.NDArray[np.float64]) -> float:
    """Third k-statistic over s³, as `scipy.stats.skew(bias=False)`, in a hundredth of its time."""
    n = len(x)
    if n < 3:
        return 0.0
    deviations = x - x.mean()
    biased = float((deviations**3).mean() / (deviations**2).mean() ** 1.5)
    return biased * math.sqrt(n * (n - 1)) / (n - 2)


def _hall(u: float, skewness: float, n: int) -> float:
    """Grows with u, whatever the skewness."""
    return u + skewness * u**2 / 3 + skewness**2 * u**3 / 27 + skewness / (6 * n)


def _hall_inverse(h: float, skewness: float, n: int) -> float:
    """u of h: 1 + γ (h − γ/(6n)) = (1 + γu/3)³."""
    if abs(skewness) < 1e-8:
        return h
    return 3 / skewness * (float(np.cbrt(1 + skewness * (h - skewness / (6 * n)))) - 1)
