"""Independent models: each experience trains a network of its own."""

from __future__ import annotations

from typing import Any

from lifelong_ct.models.swapped import SwappedModel
from lifelong_ct.strategies.isolation import Isolation


class Independent(Isolation):
    """A bound: nothing is forgotten, and nothing is passed on.

    The expert per task of Aljundi et al., "Expert Gate: lifelong learning with a network of experts", CVPR 2017 (arXiv
    1611.06194), here without initialising from the most related expert: each network starts as the run's first one
    does. Not their autoencoders but `models.routing.Router` finds the hospital of a case, on the first convolution of
    the first network; every organ is asked of the nearest hospital that annotates it. Bytes: N networks and the router.

    Args:
        router_cases: training cases of each hospital that the router looks at, at most.
    """

    title = "networks"

    def __init__(self, router_cases: int = 16) -> None:
        super().__init__(router_cases)

    def shape(self, model: Any) -> SwappedModel:
        return SwappedModel(model)

    def part_bytes(self, model_bytes: int) -> int:
        return model_bytes
