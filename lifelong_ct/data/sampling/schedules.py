"""Which case comes when."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator

Keys = tuple[str | int, ...]
SCHEDULES = ("epochs", "with_replacement", "one_pass")


class Schedule(Protocol):
    """Patch number → case, as its rank among the content digests."""

    def rank(self, number: int, cases: int, keys: Keys) -> int:
        """The case of a patch; a pure function of its arguments."""
        ...

    def patches(self, cases: int) -> int | None:
        """How many patches there are in all; None without end."""
        ...


class Epochs:
    """Every case once per epoch, in a new order each time."""

    def __init__(self) -> None:
        self._orders = _Orders()

    def rank(self, number: int, cases: int, keys: Keys) -> int:
        """See `Schedule`."""
        epoch, turn = divmod(number, cases)
        return int(self._orders(epoch, cases, keys)[turn])

    def patches(self, cases: int) -> int | None:
        """Without end."""
        return None


class WithReplacement:
    """Each patch from any case, with the same probability."""

    def rank(self, number: int, cases: int, keys: Keys) -> int:
        """See `Schedule`."""
        return int(generator(*keys, "case", number).integers(cases))

    def patches(self, cases: int) -> int | None:
        """Without end."""
        return None


class OnePass:
    """Each case once: k patches one after the other, then it is never read again.

    Args:
        k: patches per case.

    Raises:
        LifelongCTError: k below 1.
    """

    def __init__(self, k: int) -> None:
        if k < 1:
            raise LifelongCTError(f"one_pass with {k} patches", "data.patches_per_case", "write 1 or more")
        self.k, self._orders = k, _Orders()

    def rank(self, number: int, cases: int, keys: Keys) -> int:
        """See `Schedule`."""
        return int(self._orders(0, cases, keys)[number // self.k])

    def patches(self, cases: int) -> int | None:
        """k of each case."""
        return self.k * cases

    def finished(self, first: int, end: int, cases: int, keys: Keys) -> list[int]:
        """Ranks of the cases whose last patch is one of `first` … `end - 1`."""
        return [int(rank) for rank in self._orders(0, cases, keys)[first // self.k : end // self.k]]


def make_schedule(name: str, patches_per_case: int) -> Schedule:
    """The schedule of a configuration.

    Raises:
        LifelongCTError: an unknown name.
    """
    if name not in SCHEDULES:
        raise LifelongCTError(
            f"schedule={name!r} is unknown", "data.schedule", f"use {', '.join(SCHEDULES[:-1])} or one_pass"
        )
    if name == "one_pass":
        return OnePass(patches_per_case)
    return Epochs() if name == "epochs" else WithReplacement()


class _Orders:
    """Keyed permutations; the last two stay, since neighbours in number want the same one."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int, Keys], npt.NDArray[np.int64]] = {}

    def __call__(self, epoch: int, cases: int, keys: Keys) -> npt.NDArray[np.int64]:
        key = (epoch, cases, keys)
        order = self._kept.get(key)
        if order is None:
            order = generator(*keys, "order", epoch).permutation(cases)
            last = dict(list(self._kept.items())[-1:])
            self._kept = {**last, key: order}  # replaced as a whole: other threads read it
        return order
