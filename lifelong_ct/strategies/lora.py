"""LoRA: low-rank adapters per experience beside the first experience's network."""

from __future__ import annotations

from typing import Any

from lifelong_ct.memory.selection.arguments import whole
from lifelong_ct.models.adapters import AdaptedModel, Adapters
from lifelong_ct.models.segmentation import GrowingHead
from lifelong_ct.models.swapped import tensor_bytes
from lifelong_ct.strategies.arguments import check_numbers
from lifelong_ct.strategies.isolation import Isolation


class LoRA(Isolation):
    """The first experience trains the network, which is frozen then; later ones train adapters of rank r and a head.

    Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022 (arXiv 2106.09685), eq. 3:
    h = W x + (α / r) B A x, B zero at first, here beside every 3D convolution, transposed convolution and linear layer
    of the backbone: for a convolution A is a kernel of the layer's size to r channels, B one of a single voxel
    (`models.adapters.Adapter`). What the paper calls pre-training is the first experience. `models.routing.Router`
    finds the hospital of a case on the first convolution of the network; every organ is asked of the nearest hospital
    that annotates it. Bytes: one network, N - 1 sets of adapters with their heads, the router.

    Args:
        rank: r.
        alpha: α; the paper sets it to the first r that it tries.
        router_cases: training cases of each hospital that the router looks at, at most.
    """

    title = "adapters"

    def __init__(self, rank: int = 4, alpha: float = 4.0, router_cases: int = 16) -> None:
        super().__init__(router_cases)
        check_numbers(positive=True, alpha=alpha)
        self.rank, self.alpha = whole(rank, "strategy.plugins.rank", 1), alpha

    def shape(self, model: Any) -> AdaptedModel:
        return AdaptedModel(model, self.rank, self.alpha)

    def part_bytes(self, model_bytes: int) -> int:
        network = self.context.new_model()
        head = GrowingHead(network.head.weight.shape[1], 1 + len(self.context.label_space.organs))
        return tensor_bytes(Adapters(network.backbone, head, self.rank, self.alpha))
