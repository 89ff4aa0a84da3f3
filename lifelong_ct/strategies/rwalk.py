"""Riemannian walk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lifelong_ct.avalanche_bridge.plugin import tensor_bytes
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.path import LossPath, fill
from lifelong_ct.strategies.quadratic import QuadraticPenalty, laid_out, old_rows

Weights = dict[str, Tensor]


class RWalk(QuadraticPenalty):
    """Holds weights near their old values by a Fisher information kept while training (EWC++) and by how much loss a
    weight saved per step of its way, measured in KL divergence.

    Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018 (arXiv 1801.10112):

    - F ← α g² + (1 - α) F each optimizer step (eq. 6), over the experiences; g is the gradient of the task's loss
      over the step's patches, which training has at hand, as in the authors' code (where F takes a window's mean g²).
    - a score s += max(0, ΔL) / (½ F Δθ² + ε) for each window of `window` steps (eq. 7), ΔL the path integral of
      the loss (see `LossPath`) and Δθ the way of the window; F is that of its end. What is left when an experience
      ends is a window too.
    - s ← ½ (s + s_new) after each experience but the first, where s = s_new.
    - penalty λ Σ (F + s) (θ - θ*)² (eq. 8), F and s each divided by its largest value, so that they weigh alike.

    It reads no patch again, so one pass over the data serves it. A row that the head grew has F and s from 0. Bytes:
    Ω = F + s, θ*, F and s, and five copies more while it trains, whatever the number of hospitals.

    Args:
        rwalk_lambda: λ.
        alpha: α, the weight of the newest gradient, above 0 and at most 1.
        window: optimizer steps between two updates of the score.
        damping: ε, above 0.
        precision: of Ω, see `QuadraticPenalty`; F and s, which go on, stay in float32.
    """

    title = "RWalk"
    reads_gradient = True

    def __init__(
        self,
        rwalk_lambda: float,
        alpha: float = 0.9,
        window: int = 10,
        damping: float = 1e-3,
        precision: str = "fp32",
    ) -> None:
        check_numbers(rwalk_lambda=rwalk_lambda, alpha=alpha)
        check_numbers("write a damping above 0, such as 1e-3", positive=True, damping=damping)
        if not 0 < alpha <= 1:
            raise LifelongCTError(f"alpha={alpha}", "strategy.plugins", "write alpha above 0 and at most 1")
        super().__init__(rwalk_lambda, precision)
        self.alpha, self.damping = alpha, damping
        self.window = whole(window, "strategy.plugins.window", 1)
        self.fisher: Weights = {}
        self.score: Weights = {}
        self.path: LossPath | None = None
        self._started: Weights = {}  # where the window started
        self._gained: Weights = {}  # score of this experience
        self._steps, self._fresh = 0, True

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The path starts; F and s get rows for what the head grew."""
        super().before_training_exp(strategy)
        parameters = dict(strategy.model.named_parameters())
        self.admit(strategy.model)
        nbytes = tensor_bytes(parameters)
        for what, copies in (("Fisher", 1), ("score", 1), ("path", 5)):
            self.context.ledger.admit("gpu", f"RWalk {what}", copies * nbytes)
        self._fresh = not self.fisher
        self.fisher, self.score = _grown(self.fisher, parameters), _grown(self.score, parameters)
        self._started = {name: p.detach().clone() for name, p in parameters.items()}
        self._gained = _grown({}, parameters)
        self.path, self._steps = LossPath(strategy.model), 0

    @torch.no_grad()
    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Updates F; the first gradient of all is its start."""
        assert self.path is not None
        gradients = self.path.leave(strategy)
        if not gradients:
            return
        fishers = [self.fisher[name] for name in gradients]
        weight = 1.0 if self._fresh else self.alpha
        self._fresh = False
        torch._foreach_mul_(fishers, 1 - weight)
        torch._foreach_addcmul_(fishers, list(gradients.values()), list(gradients.values()), weight)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        """Closes a window when it is full."""
        assert self.path is not None
        self.path.arrive()
        super().after_update(strategy)
        self._steps += 1
        if self._steps % self.window == 0:
            self._close_window(strategy)

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Updates s, Ω and θ*, and lets the path go."""
        if self._steps % self.window:
            self._close_window(strategy)
        for name, gained in self._gained.items():
            self.score[name] = (self.score[name] + gained) / 2 if self.importance else gained
        self.path, self._started, self._gained = None, {}, {}
        self.context.ledger.release("gpu", "RWalk path")
        fisher_unit, score_unit = _largest(self.fisher), _largest(self.score)
        omega = {
            name: self.fisher[name] / fisher_unit + self.score[name] / score_unit for name in self.fisher
        }
        self.consolidate(strategy.model, omega)

    @torch.no_grad()
    def _close_window(self, strategy: Any) -> None:
        assert self.path is not None
        for name, parameter in strategy.model.named_parameters():
            way = (parameter - self._started[name]).square_().mul_(self.fisher[name]).mul_(0.5)
            self._gained[name] += self.path.fall[name].clamp(min=0) / way.add_(self.damping)
            self._started[name].copy_(parameter)
        self.path.restart()

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return {"gpu": super().declared_bytes(model_bytes)["gpu"] + 7 * model_bytes}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"fisher": dict(self.fisher), "score": dict(self.score)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for what, tree in (("Fisher", state["fisher"]), ("score", state["score"])):
            self.context.ledger.admit("gpu", f"RWalk {what}", tensor_bytes(tree))
        self.fisher, self.score = dict(state["fisher"]), dict(state["score"])

    def state_within(self) -> dict[str, Any]:
        """F, the path of the window, and the score that the experience has gained."""
        if self.path is None:
            return {}
        trees = {"fisher": self.fisher, "started": self._started, "gained": self._gained}
        told = {name: dict(tree) for name, tree in trees.items()}
        return {**told, "path": self.path.state_dict(), "steps": self._steps, "fresh": self._fresh}

    def load_state_within(self, state: dict[str, Any], strategy: Any) -> None:
        assert self.path is not None
        for name, tree in (("fisher", self.fisher), ("started", self._started), ("gained", self._gained)):
            fill(tree, state[name])
        self.path.load_state_dict(state["path"])
        self._steps, self._fresh = state["steps"], state["fresh"]

    def held_bytes(self) -> dict[str, int]:
        moving = tensor_bytes([self._started, self._gained]) + (self.path.nbytes if self.path else 0)
        return {"gpu": super().held_bytes()["gpu"] + moving}


def _grown(values: Weights, parameters: dict[str, Any]) -> Weights:
    """A value for every parameter, 0 where there was none."""
    grown = {name: torch.zeros_like(p, requires_grad=False) for name, p in parameters.items()}
    for name, value in values.items():
        if name in grown:
            old_rows(grown[name], value).copy_(laid_out(value, parameters[name]))
    return grown


def _largest(values: Weights) -> Tensor:
    """The largest entry; 1 where all are 0."""
    largest = torch.stack([value.max() for value in values.values()]).max()
    return torch.where(largest > 0, largest, torch.ones_like(largest))
