"""What methods share that give every experience parameters of its own."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import torch

from lifelong_ct.avalanche_bridge.plugin import Arrival, StrategyPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.models.parts import Learnt, PartedModel
from lifelong_ct.models.routing import first_convolution


class Isolation(StrategyPlugin):
    """Base of methods whose model has a part per experience (`models.parts`): the newest learns the organs that its
    experience annotates, earlier ones stay to the bit.

    At the end of an experience the router learns the hospital from whole training cases. What is kept of a hospital
    are weights and an aggregate over features of its cases, no voxels; of one with `sharing: forbid` the weights alone:
    the router does not know it, and its part is asked last.

    Args:
        router_cases: training cases of each experience that the router looks at, at most.
    """

    title = "parts"
    distributed = True

    def __init__(self, router_cases: int = 16) -> None:
        super().__init__()
        self.router_cases = whole(router_cases, "strategy.plugins.router_cases", 1)
        self._held = 0

    def shape(self, model: Any) -> PartedModel:
        """The model with its parts."""
        raise NotImplementedError

    def part_bytes(self, model_bytes: int) -> int:
        """Most bytes of one part once it has learnt.

        Args:
            model_bytes: see `declared_bytes`.
        """
        raise NotImplementedError

    def check_others(self, others: Sequence[StrategyPlugin]) -> None:
        if others:
            names = ", ".join(type(getattr(other, "plugin", other)).__name__ for other in others)
            raise LifelongCTError(
                f"{type(self).__name__} cannot be combined with {names}: a part learns one experience and never changes "
                "again, so there is nothing to protect, to teach or to replay",
                "strategy.plugins",
                "use one of them alone",
            )

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """A new part, before the optimizer is made; from its organs on it knows nothing of other experiences."""
        if strategy.model.routes and getattr(strategy.source, "total", None) is not None:
            raise LifelongCTError(
                f"{type(self).__name__} looks at whole cases once they are learnt, for its router; one_pass closes them",
                "data.schedule",
                "use data.schedule=epochs, or strategy=continual_segment, which has no router",
            )
        arrival = self._arrival(strategy.clock.train_exp_counter)
        space = self.context.label_space
        own = [c for organ in arrival.organs if (c := space.channel(organ)) is not None]
        routed = self._shares(strategy.clock.train_exp_counter)
        learnt = Learnt(arrival.hospital, (0, *sorted(own)), routed)
        self._admit(strategy.model.coming_bytes(len(learnt.channels)))
        strategy.model.grow(space.width)
        strategy.model.begin(learnt, lambda: self._fresh(strategy.device))
        gc.collect()  # a network of MONAI's refers to itself: the one that the part was made of would stay for a while
        strategy.model.to(strategy.device)
        self._account(strategy.model.grown_bytes())

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The part stays as it is from here on; the optimizer forgets it."""
        strategy.model.freeze()
        if strategy.model.routes and strategy.model.learnt[-1].routed:
            strategy.model.watch(strategy.whole_cases(self.router_cases))
        strategy.renew_optimizer()
        self._account(strategy.model.grown_bytes())

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        """Of the parts beyond the first; the rest is in the plan of any network."""
        later = len(self.context.hospitals) - 1
        return {"gpu": later * self.part_bytes(model_bytes) + self.router_bytes()}

    def router_bytes(self) -> int:
        """Bytes of the router after the last experience."""
        features = 2 * first_convolution(self.context.new_model())[1].out_channels
        known = sum(map(self._shares, range(len(self.context.hospitals))))
        return 8 * (known * features + features**2) if known else 0

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": self._held}

    def state_dict(self) -> dict[str, Any]:
        """The parts are the model's."""
        return {"held": self._held}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._account(int(state["held"]))

    def state_within(self) -> dict[str, Any]:
        """Only the model changes."""
        return {}

    def _arrival(self, number: int) -> Arrival:
        if number < len(self.context.arrivals):
            return self.context.arrivals[number]
        return Arrival(self.context.hospitals[number], tuple(self.context.label_space.channels))

    def _shares(self, number: int) -> bool:
        """Whether an experience allows that statistics of its features are kept."""
        return self.context.sharing.get(self.context.hospitals[number], "forbid") != "forbid"

    def _fresh(self, device: torch.device) -> Any:
        """A network as at the start of the run; the draws go on as without it."""
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            return self.context.new_model()

    def _admit(self, nbytes: int) -> None:
        self.context.ledger.admit("gpu", self._owner, nbytes)

    def _account(self, nbytes: int) -> None:
        self._admit(nbytes)
        self._held = nbytes
        self.context.ledger.use("gpu", self._owner, nbytes)

    @property
    def _owner(self) -> str:
        return f"{type(self).__name__} {self.title}"
