"""The example of a gradient projection does what its paper says."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.testing.holding import check_flat
from lifelong_ct.testing.world import TinyWorld

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "gradient_projection"


class Watch(SupervisedPlugin):
    """Largest cosine of a gradient with the first direction."""

    def __init__(self, ogd: Any) -> None:
        super().__init__()
        self.ogd, self.cosine = ogd, 0.0

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        for direction in self.ogd.basis:
            pairs = [(p.grad, direction[n]) for n, p in strategy.model.named_parameters()]
            norm = torch.stack([g.norm() for g, _ in pairs]).norm()
            self.cosine = max(self.cosine, abs((sum((g * v).sum() for g, v in pairs) / norm).item()))


def test_gradients_are_orthogonal_to_the_directions_and_these_to_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    kind = importlib.import_module("lifelong_ct_ogd.ogd").OGD
    ogd = kind(patches=1)
    watch = Watch(ogd)
    world = TinyWorld(lambda: [ogd, watch], 3)
    for hospital in range(3):
        world.learn(hospital, steps=2)
    flat = torch.stack([torch.cat([v.flatten() for v in direction.values()]) for direction in ogd.basis])
    torch.testing.assert_close(flat @ flat.T, torch.eye(3), rtol=0, atol=1e-4)
    assert 0 < watch.cosine < 1e-4
    check_flat("ogd", lambda: [kind(patches=1)], "one copy of the model per hospital")
