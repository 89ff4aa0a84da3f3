"""What an experience takes besides its steps: patches read and seen again, parameters held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, held_bytes
from lifelong_ct.core.types import Case
from lifelong_ct.data.volume import StoredVolume
from lifelong_ct.training.learner import Learner
from lifelong_ct.training.options import RunOptions


@dataclass(frozen=True)
class Patches:
    """Counted since the learner was made.

    Attributes:
        drawn: that training read from hospitals.
        again: how many of them were of cases that a past experience had shown, since all past data are kept.
        replayed: exemplars that were trained on; None where a plugin does not count them.
    """

    drawn: int
    again: int
    replayed: int | None

    @classmethod
    def of(cls, learner: Learner, plugins: Iterable[StrategyPlugin]) -> Patches:
        """So far."""
        told = [plugin.replayed() for plugin in plugins]
        known = [count for count in told if count is not None]
        return cls(learner.drawn, learner.again, sum(known) if len(known) == len(told) else None)

    def minus(self, other: Patches) -> Patches:
        """Those that came since."""
        unknown = self.replayed is None or other.replayed is None
        replayed = None if unknown else (self.replayed or 0) - (other.replayed or 0)
        return Patches(self.drawn - other.drawn, self.again - other.again, replayed)

    def costs(self) -> dict[str, int | None]:
        """`patches` new ones, and `seen_again`."""
        return {
            "patches": self.drawn - self.again,
            "seen_again": None if self.replayed is None else self.again + self.replayed,
        }


def spent(learner: Learner, plugins: Sequence[StrategyPlugin], patches: Patches) -> dict[str, Any]:
    """Of an experience that has ended: `held` bytes by kind, `parameters` of the model, `patches` and `seen_again`,
    `samples_at_once` (null where whole micro-batches went through the network to its end).

    Args:
        learner, plugins: of the run.
        patches: of it.
    """
    return {
        "held": held_bytes(plugins),
        "parameters": sum(parameter.numel() for parameter in learner.model.parameters()),
        **patches.costs(),
        "samples_at_once": learner.at_once,
    }


def shown_before(
    options: RunOptions, after: int, volumes: Sequence[StoredVolume], cases: Sequence[Case]
) -> frozenset[str]:
    """Content digests of those volumes of a round that a past experience has shown the model; none where it trains on
    what has just arrived alone, or begins anew.

    Args:
        options: of the run.
        after: number of the experience.
        volumes, cases: of the round, side by side.
    """
    if not options.requires.past_data or options.requires.reinitialise:
        return frozenset()
    present = options.stream.experiences[after - 1].hospitals
    new = {(case.hospital, case.id) for hospital in present for case in hospital.train}
    pairs = zip(volumes, cases, strict=True)
    return frozenset(volume.digest for volume, case in pairs if (case.hospital, case.id) not in new)
