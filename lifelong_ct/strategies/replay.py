"""Experience replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lifelong_ct.avalanche_bridge.plugin import StrategyContext, StrategyPlugin
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.seeding import generator
from lifelong_ct.core.units import format_bytes
from lifelong_ct.memory.exemplars import Origin, least_bytes
from lifelong_ct.memory.parts import behind, stacked
from lifelong_ct.memory.selection import Description, SelectionPolicy, needs_of
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.strategies.arguments import bounds
from lifelong_ct.strategies.describing import Describer


class Replay(StrategyPlugin):
    """Mixes stored patches of earlier hospitals into every batch.

    Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", arXiv 1902.10486, algorithm 1: the
    loss is that of the union of the new batch and a batch of the memory, which every new patch is offered
    to. Only exemplars of earlier hospitals are replayed: the present one is in the batch already. In a stream
    that tells no boundaries, where nobody knows which is the present one, all that is held is replayed. Bytes:
    `memory.exemplars`, whatever the number of hospitals.

    Args:
        selection: policy of the memory.
        exemplars_per_batch: patches of the memory added to each micro-batch.
        offer_every: optimizer steps between two offers of the current batch.
        window: HU; voxels outside are kept as its bounds. None keeps them as they are.
        precision: HU; voxels are rounded to multiples of it, an RMS error of 0.29 times it. Below the noise that costs
            little and saves most of the bytes, since noise does not compress; 1 keeps every bit.
    """

    distributed = True

    def __init__(
        self,
        selection: SelectionPolicy,
        exemplars_per_batch: int = 2,
        offer_every: int = 1,
        window: Sequence[float] | None = None,
        precision: int = 1,
    ) -> None:
        super().__init__()
        needs_of(selection)
        self.selection = selection
        self.exemplars_per_batch = whole(exemplars_per_batch, "strategy.plugins.exemplars_per_batch", 1)
        self.offer_every = whole(offer_every, "strategy.plugins.offer_every", 1)
        self.window = None if window is None else bounds(window, "strategy.plugins.window")
        self.precision = whole(precision, "strategy.plugins.precision", 1)

    def bind(self, context: StrategyContext) -> None:
        super().bind(context)
        least = self.least(context.patch)
        if 0 < context.exemplar_bytes < least:
            raise LimitExceeded(
                f"replay needs at least {least} bytes, one patch without any structure; "
                f"the limit is {format_bytes(context.exemplar_bytes)}",
                "memory.exemplars",
                f"raise it to many times {least}, or use strategy=naive",
            )
        if context.ranks.size > 1 and "mean" in needs_of(self.selection):
            raise LifelongCTError(
                f"{type(self.selection).__name__} compares with the mean of all that arrives, of which each rank sees a part",
                "strategy.plugins.selection",
                "use another selection, or one rank",
            )
        self.memory = context.exemplars(self.selection)
        self.describer = Describer(self.selection, context.label_space)
        self._new: tuple[torch.Tensor, torch.Tensor, list[Origin]] | None = None

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Takes the new patches as they are, then appends exemplars of earlier hospitals to the micro-batch."""
        self.take(strategy)
        self.append(strategy, self.past(strategy))

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Offers the new patches with what the forward pass says of them."""
        if self._new is not None:
            self.offer(self.describer(strategy, self._new[1]))

    def least(self, kept: Sequence[int]) -> int:
        """Bytes of an exemplar of `kept` voxels `(D, H, W)`, at best."""
        return least_bytes(kept)

    def past(self, strategy: Any) -> dict[str, torch.Tensor]:
        """Exemplars of the past for the micro-batch, as `ExemplarMemory.sample` gives them."""
        return stacked(self.drawn(strategy))

    def drawn(self, strategy: Any) -> list[dict[str, torch.Tensor]]:
        """The parts of exemplars of earlier hospitals; of any where the stream tells no boundaries."""
        rng = generator(self.context.seed, "replay", strategy.clock.train_iterations, strategy.micro_step)
        present = self.context.present(strategy)
        return [parts for _, parts in self.memory.draw(self.exemplars_per_batch, rng, without=present)]

    def due(self, strategy: Any, parts: Sequence[str]) -> bool:
        """Whether the new patches are offered in this step, and these parts of them may be kept."""
        hospital = self.context.hospitals[strategy.clock.train_exp_counter]
        return strategy.clock.train_iterations % self.offer_every == 0 and self.memory.allows(hospital, parts)

    def take(self, strategy: Any) -> None:
        """Remembers the micro-batch's patches for `offer`, every so many steps and where they may be kept, and looks at
        the forward pass."""
        if self.due(strategy, ("x", "y")):
            x, y = (each.cpu() for each in strategy.mbatch[:2])
            self._new = coarse(x, self.window, self.precision), y, self.context.origins(strategy)
            self.describer.watch(strategy.model)

    def append(self, strategy: Any, past: dict[str, torch.Tensor]) -> None:
        """Trains on these too, int16 `x` and codes `y`; on nothing more where there are none."""
        if past:
            x, y = strategy.mbatch[:2]
            strategy.mbatch[:2] = behind(x, y, past)

    def offer(self, said: Sequence[Description]) -> None:
        """Offers what was taken, if anything was, with a description of each."""
        if self._new is not None:
            offers = zip(*self._new, said, strict=True)
            self.memory.offer_all([({"x": x, "y": y}, origin, told) for x, y, origin, told in offers])
            self._new = None

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return self.memory.declared_bytes()

    def state_dict(self) -> dict[str, Any]:
        return {"memory": self.memory.state_dict(), "describer": self.describer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory.load_state_dict(state["memory"])
        self.describer.load_state_dict(state.get("describer") or {})

    def state_within(self) -> dict[str, Any]:
        """What is held changes with every offer."""
        return {"memory": self.memory.state_within(), "describer": self.describer.state_within()}

    def load_state_within(self, state: dict[str, Any], strategy: Any) -> None:
        self.memory.load_state_within(state["memory"])
        self.describer.load_state_within(state["describer"])

    def held_bytes(self) -> dict[str, int]:
        return self.memory.held_bytes()


def coarse(x: torch.Tensor, window: Sequence[float] | None, precision: int) -> torch.Tensor:
    """int16 voxels, within a window, rounded to multiples of `precision`."""
    kept = x if window is None else x.clamp(round(window[0]), round(window[1]))
    if precision == 1:
        return kept
    return (kept.float() / precision).round().mul(precision).to(x.dtype)
