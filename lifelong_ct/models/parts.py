"""Models with a part per experience: of which only the newest learns, and which a case needs is found from the case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lifelong_ct.models.routing import Router, described, stacked, tiles

LOW = -1e4
"""Logit of an organ that a part has not learnt: a probability of 0, also in half precision."""


@dataclass(frozen=True)
class Learnt:
    """What a part knows.

    Attributes:
        hospital: that it was learnt at.
        channels: of the model's head that its own channels are, background (0) first.
        routed: whether the router may know the hospital.
    """

    hospital: str
    channels: tuple[int, ...]
    routed: bool = True

    @classmethod
    def of(cls, state: dict[str, Any]) -> Learnt:
        """Of JSON values."""
        return cls(str(state["hospital"]), tuple(map(int, state["channels"])), state.get("routed", True))


class PartedModel(nn.Module):
    """Base of models that isolate what each experience learns.

    In training mode the newest part answers: background, the organs that its experience annotates, and `LOW` for the
    others, which are background to it. In evaluation mode every organ is asked of the first part of `ranking` that
    knows it; where several parts answer, an organ's logit is the one over the background of its own part.

    Args:
        routes: whether a router ranks the parts per case; else the newest come first.

    Attributes:
        learnt: what each part knows, in order; empty before the first experience.
        width: channels of the answer.
        ranking: numbers of the parts in evaluation mode.
        parts: what each has of its own, in order.
    """

    kind = ""
    parts: nn.ModuleList

    def __init__(self, routes: bool = True) -> None:
        super().__init__()
        self.routes, self.width = routes, 1
        self.learnt: list[Learnt] = []
        self.router: Router | None = None
        self.ranking: tuple[int, ...] | None = None

    # --- what kinds of parts differ in ------------------------------------------------------------------

    def answer(self, part: int, x: Tensor) -> Tensor:
        """Logits of one part `[B,c,D,H,W]`, c its own channels."""
        raise NotImplementedError

    def add(self, width: int, fresh: Callable[[], nn.Module]) -> None:
        """Makes a part whose head has `width` channels; `fresh` builds a network as at the start of the run."""
        raise NotImplementedError

    def freeze(self) -> None:
        """The newest part learns no more."""
        raise NotImplementedError

    def grown_bytes(self) -> int:
        """Bytes beyond those of a network that does not grow."""
        raise NotImplementedError

    def coming_bytes(self, width: int) -> int:
        """What `grown_bytes` will be once a part is added whose head has `width` channels; nothing is allocated."""
        raise NotImplementedError

    def eye(self) -> tuple[nn.Module, nn.Conv3d, Tensor, Tensor | None]:
        """What the router sees with: normalisation, frozen convolution, its weight and bias."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """What `restore` must know besides `learnt`, as JSON values."""
        return {}

    # --- experiences ------------------------------------------------------------------------------------

    def grow(self, width: int) -> bool:
        """Channels of the answer from now on; the parts keep theirs."""
        grown, self.width = width > self.width, width
        return grown

    def begin(self, learnt: Learnt, fresh: Callable[[], nn.Module]) -> None:
        """The next experience: a new part learns.

        Args:
            learnt: what it will know.
            fresh: builds a network as at the start of the run; called only by parts that are made of one.
        """
        self.add(len(learnt.channels), fresh)
        self.learnt.append(learnt)

    def train(self, mode: bool = True) -> PartedModel:
        """Running statistics of what parts share stay as the first hospital left them."""
        super().train(mode)
        if mode and len(self.learnt) > 1:
            for module in self.shared():
                if isinstance(module, _NormBase):
                    module.eval()
        return self

    def shared(self) -> Iterable[nn.Module]:
        """Modules whose state belongs to no single part."""
        return ()

    def changing(self) -> Iterator[nn.Module]:
        """Modules whose buffers a pass in training may change: neither those of the router nor of a part that is learnt."""
        done = [*self.parts[:-1], *([self.router] if self.router else [])]
        still = {module for each in done for module in each.modules()}
        return (module for module in self.modules() if module not in still)

    def watch(self, images: Iterable[Tensor]) -> None:
        """The router learns the newest part's hospital from tiles `[1,C,d,h,w]` of its cases."""
        rows = stacked(self._describe(x) for x in images)
        if self.router is None:
            self.router = Router(rows.shape[1]).to(rows.device)
        self.router.learn(rows)

    # --- cases ------------------------------------------------------------------------------------------

    def route(self, image: Tensor, hospital: str | None = None) -> tuple[int, ...]:
        """Numbers of the parts, the one for this case first, those of hospitals that the router does not know last.

        Args:
            image: int16 or float `[C,D,H,W]` in HU.
            hospital: where the case comes from, if that is told: its parts come first, then by resemblance. A hospital
                that no part has learnt changes nothing.
        """
        newest = list(reversed(range(len(self.learnt))))
        if self.router is None or not self.router.known:
            return tuple(newest)
        device = self.router.mean.device
        views = (image[(slice(None), *box)][None].to(device) for box in tiles(image.shape[1:]))
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            known = iter(self.router.distances(stacked(map(self._describe, views))))
        away = [next(known, math.inf) if each.routed else math.inf for each in self.learnt]
        told = [self.learnt[part].hospital == hospital for part in range(len(newest))]
        return tuple(sorted(newest, key=lambda part: (not told[part], away[part])))

    @contextmanager
    def using(self, ranking: Sequence[int] | None) -> Iterator[None]:
        """Meanwhile the parts rank so in evaluation mode."""
        before, self.ranking = self.ranking, None if ranking is None else tuple(ranking)
        try:
            yield
        finally:
            self.ranking = before

    def owners(self, ranking: Sequence[int]) -> dict[int, list[int]]:
        """Part → the organs' channels that are asked of it."""
        asked: dict[int, list[int]] = {}
        taken = {0}
        for part in ranking:
            own = [c for c in self.learnt[part].channels if c not in taken]
            taken.update(own)
            if own:
                asked[part] = own
        return asked

    def forward(self, x: Tensor) -> Tensor:
        """int16 or float `[B,C,D,H,W]`, HU for CT → logits `[B,width,D,H,W]`."""
        last = len(self.learnt) - 1
        if last < 0:
            return self._spread(self.answer(0, x), (0,))
        if self.training:
            return self._spread(self.answer(last, x), self.learnt[last].channels)
        return self.merged(x)

    def merged(self, x: Tensor) -> Tensor:
        """In evaluation mode."""
        ranking = self.ranking or tuple(reversed(range(len(self.learnt))))
        asked = self.owners(ranking)
        if len(asked) <= 1:
            part = next(iter(asked), ranking[0])
            return self._spread(self.answer(part, x), self.learnt[part].channels)
        whole = None
        for part, channels in asked.items():
            logits, own = self.answer(part, x), self.learnt[part].channels
            if whole is None:
                whole = logits.new_full((len(x), self.width, *logits.shape[2:]), LOW)
                whole[:, 0] = 0
            rows = [own.index(c) for c in channels]
            whole[:, channels] = logits[:, rows] - logits[:, :1]
        assert whole is not None
        return whole

    def _spread(self, logits: Tensor, channels: Sequence[int]) -> Tensor:
        if tuple(channels) == tuple(range(self.width)):
            return logits
        whole = logits.new_full((len(logits), self.width, *logits.shape[2:]), LOW)
        whole[:, list(channels)] = logits
        return whole

    def _describe(self, x: Tensor) -> Tensor:
        normalise, convolution, weight, bias = self.eye()
        seen = normalise(x)
        with torch.no_grad():  # not by calling it, which would answer as the part that learns
            return described(
                convolution._conv_forward(seen, weight.float(), None if bias is None else bias.float())
            )

    # --- state ------------------------------------------------------------------------------------------

    def structure(self) -> dict[str, Any]:
        """JSON values from which `restoring.fitted` makes a model that takes this one's state."""
        return {
            "kind": self.kind,
            "width": self.width,
            "learnt": [asdict(each) for each in self.learnt],
            "routed": 0 if self.router is None else self.router.known,
            "options": self.options(),
        }

    def restore(self, structure: dict[str, Any]) -> None:
        """Takes on the form of a `structure`; the values come with `load_state_dict`."""
        self.width = int(structure["width"])
        self.learnt = [Learnt.of(each) for each in structure["learnt"]]
        if self.learnt:
            self.requires_grad_(False)  # what has been learnt stays
        if structure["routed"]:
            convolution = self.eye()[1]
            device = next(self.parameters()).device
            self.router = Router(2 * convolution.out_channels, int(structure["routed"])).to(device)
