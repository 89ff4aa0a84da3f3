"""Linear, dynamic and selective memory: online learning from a memory of the stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator
from lifelong_ct.memory.exemplars import Exemplar
from lifelong_ct.memory.parts import stacked
from lifelong_ct.memory.selection import Description, SelectionPolicy, needs_of
from lifelong_ct.memory.selection.arguments import between
from lifelong_ct.strategies.replay import Replay

_FIXED = frozenset({"offered", "organs"})
"""What of a description no pass through the model changes."""


class OnlineMemory(Replay):
    """Trains on a memory of the whole stream, and judges anew what it holds whenever that is trained on.

    Chou et al., "Embracing Massive Medical Data", MICCAI 2024 (arXiv 2407.04687). The selection makes the method:
    `Recent` the linear memory (LM), `Uniqueness` the dynamic (DM), `Selective` the selective (SM). No boundary is told,
    no hospital looked at, and no scan read twice: each patch that arrives is offered, and trained on together with
    patches drawn from all that the memory holds. What the policy asks of a patch is taken from the forward passes of
    training; each time that an exemplar is trained on, a number s of its description becomes γ s + (1 - γ) s_new, and
    a vector likewise in its direction and in its length. (The authors' code does so, with unit vectors and γ = 0.5.)

    The authors keep places of scans, read a scan again for each draw, and make R = 100 steps per scan with batches of
    the memory alone. Here the memory holds patches, in bytes, and the patch that arrives is in the batch. With k
    patches per scan (`data.patches_per_case`) R is k (1 + `exemplars_per_batch`) patches trained on per scan. A
    hospital whose patches may not be kept is trained on while it passes.

    Bytes: `memory.exemplars`, whatever the length of the stream.

    Args:
        selection: policy of the memory.
        exemplars_per_batch: patches of the memory added to each micro-batch.
        smoothing: γ, from 0 (only the last pass counts) to 1 (only the first).
        window, precision: see `Replay`.
    """

    def __init__(
        self,
        selection: SelectionPolicy,
        exemplars_per_batch: int = 1,
        smoothing: float = 0.5,
        window: Sequence[float] | None = None,
        precision: int = 1,
    ) -> None:
        super().__init__(selection, exemplars_per_batch, 1, window, precision)
        if "mean" in needs_of(selection):
            raise LifelongCTError(
                f"{type(selection).__name__} compares with the mean of what arrives, and here what the memory holds is judged "
                "again",
                "strategy.plugins.selection",
                "use recent, uniqueness or selective",
            )
        self.smoothing = between(smoothing, "strategy.plugins.smoothing", 0.0, 1.0)
        self._drawn: list[Exemplar] = []
        self._codes = torch.empty(0)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Takes the new patches as they are, then appends exemplars of any hospital to the micro-batch."""
        rng = generator(self.context.seed, "online", strategy.clock.train_iterations, strategy.micro_step)
        drawn = self.memory.draw(self.exemplars_per_batch, rng)
        self.take(strategy)
        self.append(strategy, stacked([parts for _, parts in drawn]))
        self._drawn, self._codes = [exemplar for exemplar, _ in drawn], strategy.mbatch[1].cpu()
        self.describer.watch(strategy.model)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Says anew what was drawn is like, and offers the new patches."""
        said = self.describer(strategy, self._codes)
        first = len(said) - len(self._drawn)
        if self.describer.needs - _FIXED:
            pairs = zip(self._drawn, said[first:], strict=True)
            self.memory.describe({e.id: renewed(e.description, new, self.smoothing) for e, new in pairs})
        self.offer(said[:first])
        self._drawn = []


def renewed(old: Description, new: Description, keep: float) -> Description:
    """A moving average of what the model said of a patch; organs and the time of the offer stay.

    Args:
        old: of before.
        new: of now.
        keep: weight of `old`.
    """
    scores = {
        name: value if name in _FIXED else keep * value + (1 - keep) * new.scores[name]
        for name, value in old.scores.items()
    }
    vectors = {name: _between(value, new.vectors[name], keep) for name, value in old.vectors.items()}
    return Description(old.organs, scores, vectors)


def _between(old: np.ndarray, new: np.ndarray, keep: float) -> np.ndarray:
    """The direction and the length between two vectors; the new one where the model has got another width."""
    if old.shape != new.shape:
        return new
    lengths = [max(float(np.linalg.norm(v)), 1e-12) for v in (old, new)]
    mixed = keep * old / lengths[0] + (1 - keep) * new / lengths[1]
    length = keep * lengths[0] + (1 - keep) * lengths[1]
    return np.asarray(mixed * (length / max(float(np.linalg.norm(mixed)), 1e-12)), np.float32)
