"""Continual Segment: a frozen encoder, a pruned decoder per experience, and their answers merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.arguments import between
from lifelong_ct.models.decoders import DecodersModel
from lifelong_ct.models.merging import merging_bytes
from lifelong_ct.models.packing import magnitude_masks, packed_bytes
from lifelong_ct.models.swapped import HEAD
from lifelong_ct.strategies.frozen_encoder import encoder_parameters
from lifelong_ct.strategies.isolation import Isolation

_MASKS = "ContinualSegment masks"


class ContinualSegment(Isolation):
    """The first experience trains encoder and decoder; every later one a decoder of its own on the frozen encoder.

    Ji et al., "Continual Segment: towards a single, unified and non-forgetting continual segmentation model of 143
    whole-body organs in CT scans", ICCV 2023 (arXiv 2302.00162): the encoder of the first dataset is frozen, each new
    one adds a decoder from scratch, decoders are pruned, and the organs of all decoders are merged.

    - Pruning: the paper's neural architecture search with distillation is replaced by what the authors' released code
      does (alibaba-damo-academy/clNet, of arXiv 2503.12698): the smallest weights of all layers of the decoder go
      together. There the share rises from 80 % as long as Dice falls by less than 2 %; here it is fixed, so that bytes
      can be stated before the run, and the weights that stay go on from where they are instead of from their start.
      What is pruned is not stored: a decoder keeps its values and one bit per place.
    - Merging (`models.merging.merge`): confidence by entropy where decoders know the same organ, and lesions before the
      organ that they lie in. The restriction of each decoder to its part of the body is left out: it needs a
      regressor of body parts. The released code has no merging; this follows the paper's account of it.

    The encoder is what `strategy=frozen_encoder` freezes. Bytes: the encoder and N pruned decoders.

    Args:
        sparsity: share of the weights of each decoder's layers that goes, the head's not among them.
        prune_after: share of an experience's steps before pruning; the others mend what it broke.
        encoder: see `FrozenEncoder`.
    """

    title = "decoders"

    def __init__(
        self, sparsity: float = 0.8, prune_after: float = 0.5, encoder: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.sparsity = between(sparsity, "strategy.plugins.sparsity", 0, 1)
        if self.sparsity == 1:
            raise LifelongCTError("sparsity=1", "strategy.plugins", "leave some weights: 0.8 or so")
        self.prune_after = between(prune_after, "strategy.plugins.prune_after", 0, 1)
        listed = isinstance(encoder, Sequence) and all(isinstance(name, str) for name in encoder)
        if encoder is not None and (isinstance(encoder, str) or not encoder or not listed):
            raise LifelongCTError(
                f"encoder={encoder!r}", "strategy.plugins", "write a list of names, or null for the rule"
            )
        self.encoder = encoder
        self._masks: dict[str, Tensor] = {}

    def shape(self, model: Any) -> DecodersModel:
        return DecodersModel(model, self._owned(model), {})

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """A new decoder."""
        self._masks = {}
        super().after_train_dataset_adaptation(strategy, **kwargs)
        strategy.model.within = _within(self.context.label_space)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        """Prunes when its time has come; from then on what is gone stays 0."""
        if strategy.clock.train_exp_iterations + 1 == max(1, round(self.prune_after * strategy.steps)):
            self._choose(strategy.model)
        with torch.no_grad():
            for name, stays in self._masks.items():
                strategy.model.newest().get(name).mul_(stays)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The decoder is stored in the bytes that are left of it."""
        if not self._masks:
            self._choose(strategy.model)
        strategy.model.newest().prune(self._masks)
        self._masks = {}
        self.context.ledger.release("gpu", _MASKS)
        super().after_training_exp(strategy, **kwargs)

    def state_within(self) -> dict[str, Any]:
        """Which weights stay, once that has been decided."""
        return {"masks": dict(self._masks)}

    def load_state_within(self, state: dict[str, Any], strategy: Any) -> None:
        self.context.ledger.admit("gpu", _MASKS, sum(mask.numel() for mask in state["masks"].values()))
        self._masks = {name: mask.to(strategy.device) for name, mask in state["masks"].items()}

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        """With the masks of the decoder that is being pruned."""
        masks = sum(value.numel() for value in self._prunable(self._decoder()).values())
        return {"gpu": super().declared_bytes(model_bytes)["gpu"] + masks}

    def part_bytes(self, model_bytes: int) -> int:
        own = self._decoder()
        pruned = self._prunable(own)
        rest = sum(v.numel() * v.element_size() for name, v in own.items() if name not in pruned)
        return rest + packed_bytes([value.numel() for value in pruned.values()], self.sparsity)

    def router_bytes(self) -> int:
        """There is no router."""
        return 0

    def inference_bytes(self, window: Sequence[int], width: int) -> dict[str, int]:
        """A decoder as it is computed with, and what `merge` holds."""
        decoder = sum(v.numel() * v.element_size() for v in self._decoder().values())
        return {"gpu": decoder + merging_bytes(torch.Size(window).numel(), width)}

    def _decoder(self) -> dict[str, Tensor]:
        """A fresh one that knows every organ."""
        network = self.context.new_model()
        network.grow(1 + len(self.context.label_space.organs))
        found = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        return {name: found[name] for name in self._owned(network)}

    def _owned(self, network: Any) -> list[str]:
        """Names of what is a decoder's: all but the encoder."""
        size = (1, self.context.channels, *self.context.patch)
        device = next(network.parameters()).device
        encoder = encoder_parameters(network, torch.zeros(size, device=device), self.encoder)
        inside = {name.rpartition(".")[0] for name in encoder}
        own = [name for name, _ in network.named_parameters() if name not in encoder]
        return own + [name for name, _ in network.named_buffers() if name.rpartition(".")[0] not in inside]

    def _choose(self, model: DecodersModel) -> None:
        """Which weights stay: a byte for each."""
        values = self._prunable(model.newest().values())
        self.context.ledger.admit("gpu", _MASKS, sum(value.numel() for value in values.values()))
        self._masks = magnitude_masks(values, self.sparsity)

    def _prunable(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of layers; not biases, scales of normalisations, and the head, which is small."""
        return {name: value for name, value in values.items() if value.ndim > 1 and name not in HEAD}


def _within(space: Any) -> dict[int, list[int]]:
    """Channel of an organ → channels of the organs that contain it."""
    found = {
        space.channel(inner): [
            space.channel(o) for o in space.channels if space.vocabulary.contains(o, inner)
        ]
        for inner in space.channels
    }
    return {inner: [o for o in outer if o != inner] for inner, outer in found.items() if outer != [inner]}
