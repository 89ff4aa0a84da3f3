"""What a strategy adds to the loss does not depend on the size of the patch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.testing.world import EDGE, TinyWorld

TILES = 4


def check_invariance(name: str, plugins: Callable[[], Sequence[SupervisedPlugin]]) -> None:
    """Two hospitals of 8³ patches, and the same tiled to 32³: penalties and distillation losses are the same.

    The network sees nothing beyond blocks of 2³ voxels and the loss is a mean, so everything else is equal. Not asked of a
    plugin that `adds_samples`.

    Raises:
        AssertionError: with both numbers.
    """
    small, large = TinyWorld(plugins, 2), TinyWorld(plugins, 2, tiles=TILES)
    if any(plugin.adds_samples for plugin in small.plugins):
        return
    for world in (small, large):
        world.learn(0, steps=2)
        world.learn(1, steps=3)
    for step, (one, other) in enumerate(zip(small.added, large.added, strict=True)):
        assert math.isclose(one, other, rel_tol=0.01, abs_tol=1e-5), (
            f"{name} adds {one:.6g} to the loss of an {EDGE}³ patch and {other:.6g} to that of the same patch tiled to "
            f"{EDGE * TILES}³ (step {step}): divide a sum over voxels by their number"
        )
