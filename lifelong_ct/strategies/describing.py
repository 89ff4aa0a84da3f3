"""What a selection policy is told of the patches that are offered to a memory, from the training step's own forward pass.

Letters of shapes: B patch, C channel of the head, F feature, V voxel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.memory.selection import Description, needs_of
from lifelong_ct.strategies.taps import GRIDDED, joined, watched

LENGTH = 64
"""Most numbers of a vector; longer ones are projected to as many at random, which keeps angles to about 1/8."""
_RUN = -1
"""In place of an experience: no boundary is told."""
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU)
"""Instance normalisation leaves a mean of 0: what tells patches apart comes after the activation."""


class Describer:
    """Describes the new patches of a micro-batch as far as a policy needs it; without needs it does nothing.

    `watch` before the forward pass, then call it before the backward pass. What it tells:

    - `organs`: voxels with an organ's label. An organ counts without what lies inside it and has a label of its own.
    - `loss`: the run's loss of the patch alone, as it is trained (augmented, completed).
    - `uncertainty`: entropy of the prediction, the mean over the voxels that are no padding, in shares of log C.
    - `embedding`: the mean over space of the last feature map of the coarsest resolution, float32, at most `LENGTH`.
    - `mean`: of the embeddings that this experience has had until then, each made 1 long, float32; where the stream
      tells no boundaries, of all of the run.
    - `gradient`: of the loss with respect to the head's weights and biases, projected at random, float32 `[LENGTH]`;
      an organ that comes later adds to it and leaves the rest as it was.
    - `offered`: optimizer steps of the run, with the place within the step as a fraction.

    Args:
        policy: a selection policy, see `needs_of`.
        space: decodes labels; it may grow.

    Raises:
        LifelongCTError: see `needs_of`; or the gradient is needed, and the model has no `head`.
    """

    def __init__(self, policy: Any, space: LabelSpace) -> None:
        self.needs, self.space = needs_of(policy), space
        self._hooks = ExitStack()
        self._deepest: list[Tensor] = []  # of each pass
        self._features: list[Tensor] = []
        self._sum: np.ndarray | float = 0.0
        self._summed: tuple[int | None, int] = (None, 0)
        self._voxels: float = math.inf

    def watch(self, model: nn.Module) -> None:
        """Until the next call the forward pass of the model is looked at."""
        self._hooks.close()
        self._deepest, self._features = [], []
        if self.needs & {"embedding", "mean"}:
            self._hooks.callback(model.register_forward_pre_hook(self._begin).remove)
            kinds = (*GRIDDED, *_ACTIVATIONS)
            layers = ((0, m) for n, m in model.named_modules() if isinstance(m, kinds) and n != "head")
            self._hooks.enter_context(watched(layers, self._see))
        if "gradient" in self.needs:
            self._hooks.callback(_head(model).register_forward_pre_hook(self._see_features).remove)

    def __call__(self, strategy: Any, y: Tensor) -> list[Description]:
        """Descriptions of the first patches of the micro-batch, which has been through the model.

        Args:
            strategy: the learner.
            y: their codes as stored, `[B,1,D,H,W]` on the CPU.
        """
        self._hooks.close()
        if not self.needs:
            return [Description()] * len(y)
        logits, labels = strategy.mb_output[: len(y)].detach().float(), strategy.mb_y[: len(y)]
        scores: dict[str, Any] = {"offered": _offered(strategy, len(y))}
        vectors: dict[str, np.ndarray] = {}
        if "uncertainty" in self.needs:
            scores["uncertainty"] = uncertainty(logits, labels).tolist()
        if self._deepest:
            deepest = joined(self._deepest)[: len(y)]
            vectors["embedding"] = _short(deepest.detach().float().flatten(2).mean(2))
            if "mean" in self.needs:
                vectors["mean"] = self._means(
                    vectors["embedding"], strategy.clock.train_exp_counter if strategy.boundaries else _RUN
                )
        if self.needs & {"loss", "gradient"}:
            loss, slope = _loss(strategy._criterion, logits, labels, "gradient" in self.needs)
            scores["loss"] = loss.tolist()
            if slope is not None and self._features:
                features = joined(self._features)[: len(y)]
                vectors["gradient"] = head_gradient(slope, features.detach().float())
        self._deepest, self._features = [], []
        organs = self.organs(y)
        return [
            Description(
                organs[i], {k: v[i] for k, v in scores.items()}, {k: v[i] for k, v in vectors.items()}
            )
            for i in range(len(y))
        ]

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._voxels = math.inf

    def _see(self, _: int, output: Any) -> None:
        if not (isinstance(output, Tensor) and output.ndim == 5 and output[0, 0].numel() <= self._voxels):
            return
        if math.isfinite(self._voxels):
            self._deepest.pop()  # of this pass too
        self._deepest.append(output)
        self._voxels = output[0, 0].numel()

    def _see_features(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._features.append(args[0])

    def _means(self, embeddings: np.ndarray, experience: int) -> np.ndarray:
        """After each patch; where boundaries are told it begins anew with an experience, so that no checkpoint has to
        hold it."""
        before, count = self._summed
        if before != experience:
            self._sum, count = 0.0, 0
        units = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        sums = self._sum + units.cumsum(0, dtype=np.float64)
        self._sum, self._summed = sums[-1], (experience, count + len(units))
        return (sums / np.arange(count + 1, count + 1 + len(units))[:, None]).astype(np.float32)

    def mark(self) -> Callable[[], None]:
        """See `Undoable`."""
        before = self._sum, self._summed

        def undo() -> None:
            self._hooks.close()
            self._sum, self._summed = before

        return undo

    def state_dict(self) -> dict[str, Any]:
        """The sum behind a mean of the whole run; nothing else lasts."""
        which, count = self._summed
        return {"sum": torch.from_numpy(np.array(self._sum)), "count": count} if which == _RUN else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        if state:
            self._sum, self._summed = state["sum"].cpu().numpy(), (_RUN, int(state["count"]))

    def state_within(self) -> dict[str, Any]:
        """The sum behind the mean of an experience, or of the run."""
        which, count = self._summed
        return {"sum": torch.from_numpy(np.array(self._sum)), "which": which, "count": count}

    def load_state_within(self, state: dict[str, Any]) -> None:
        """Restores `state_within`."""
        self._sum, self._summed = state["sum"].cpu().numpy(), (state["which"], int(state["count"]))

    def organs(self, y: Tensor) -> list[dict[str, int]]:
        """Voxels with each organ's label, where the policy needs it; y codes as stored, `[B,1,D,H,W]` on the CPU."""
        if "organs" not in self.needs:
            return [{}] * len(y)
        channel = self.space.literal() + 1  # padding is 0, background 1
        counts = [np.bincount(channel[codes.reshape(-1)]) for codes in y.numpy()]
        return [
            {self.space.channels[k - 2]: int(n) for k, n in enumerate(count) if k > 1 and n}
            for count in counts
        ]


def uncertainty(logits: Tensor, y: Tensor) -> Tensor:
    """Mean entropy over the voxels that are no padding, in shares of the highest, log C: `[B]`.

    Args:
        logits: float `[B,C,D,H,W]`.
        y: codes `[B,1,D,H,W]`.
    """
    log_p_BCV = logits.flatten(2).log_softmax(1)
    entropy_BV = -(log_p_BCV.exp() * log_p_BCV).sum(1)
    known_BV = (y.flatten(1).long() != IGNORE).to(entropy_BV)
    mean_B = (entropy_BV * known_BV).sum(1) / known_BV.sum(1).clamp(min=1)
    return mean_B / max(math.log(logits.shape[1]), 1e-6)


def head_gradient(slope: Tensor, features: Tensor) -> np.ndarray:
    """Gradient of a loss with respect to a 1×1×1 convolution's weights and biases, projected: float32 `[B,LENGTH]`.

    Args:
        slope: of the loss with respect to the logits, `[B,C,D,H,W]`.
        features: input of the convolution, `[B,F,D,H,W]`.
    """
    slope_BCV, features_BFV = slope.flatten(2), features.flatten(2)
    weight_BCF = torch.einsum("bcv,bfv->bcf", slope_BCV, features_BFV)
    gradient_BCF = torch.cat([weight_BCF, slope_BCV.sum(2, keepdim=True)], 2).cpu().numpy()
    projected = sum(gradient_BCF[:, c] @ _projection(c, gradient_BCF.shape[2]) for c in range(slope.shape[1]))
    return np.asarray(projected, np.float32)


@lru_cache(maxsize=256)
def _projection(which: int, length: int) -> np.ndarray:
    """Normal numbers `[length,LENGTH]` that keep a vector's length on average; the same in every run."""
    drawn = generator("description", which, length).standard_normal((length, LENGTH), dtype=np.float32)
    return drawn / np.float32(math.sqrt(LENGTH))


def _short(vectors: Tensor) -> np.ndarray:
    found = vectors.cpu().numpy()
    return found if found.shape[1] <= LENGTH else found @ _projection(0, found.shape[1])


def _loss(criterion: Any, logits: Tensor, y: Tensor, sloped: bool) -> tuple[Tensor, Tensor | None]:
    """Of each patch, and its slope at the logits."""
    with torch.set_grad_enabled(sloped):
        leaf = logits.requires_grad_(sloped)
        if callable(each := getattr(criterion, "per_sample", None)):
            loss = each(leaf, y)
        else:
            loss = torch.stack([criterion(leaf[i : i + 1], y[i : i + 1]) for i in range(len(y))])
    return loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0] if sloped else None


def _offered(strategy: Any, count: int) -> list[float]:
    within = [(strategy.micro_step + i / count) / strategy.accumulate for i in range(count)]
    return [strategy.clock.train_iterations + part for part in within]


def _head(model: nn.Module) -> nn.Module:
    if isinstance(head := getattr(model, "head", None), nn.Module):
        return head
    raise LifelongCTError(
        "the selection needs the gradient of the head, and the model has no module `head`",
        "selection",
        "use another selection, or name the model's last layer `head`",
    )
