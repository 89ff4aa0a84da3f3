"""State between two steps of an experience."""

import random

import numpy as np
import pytest
import torch
from avalanche.training.plugins import AGEMPlugin, EWCPlugin, ReplayPlugin

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.avalanche_bridge.stock import adopt
from lifelong_ct.strategies.continual_segment import ContinualSegment
from lifelong_ct.strategies.rwalk import RWalk
from lifelong_ct.testing.midway import check_midway
from lifelong_ct.training import checkpoint, midway

CPU = torch.device("cpu")


def draws() -> list[float]:
    rng = np.random
    return [random.random(), random.gauss(0, 1), rng.random(), rng.randn(), *torch.rand(2).tolist()]


def test_generators_go_on(tmp_path) -> None:
    """Also where half of a pair of normal numbers is left over."""
    random.gauss(0, 1)
    np.random.randn()  # noqa: NPY002 - as stock plugins draw
    checkpoint.save(tmp_path / "state", midway.generators(CPU))
    expected = draws()
    draws()
    midway.set_generators(checkpoint.load(tmp_path / "state"), CPU)
    assert draws() == expected


@pytest.mark.parametrize(
    "plugin",
    [
        lambda: RWalk(1.0, window=2),  # POINTS lie behind and within a window
        lambda: ContinualSegment(prune_after=0.5),
        lambda: ReplayPlugin(mem_size=4),
        lambda: EWCPlugin(0.1, mode="online", decay_factor=0.9),
    ],
)
def test_plugins_go_on(plugin) -> None:
    assert midway.why_not([adopt(plugin())]) is None
    check_midway("it", lambda: [plugin()])


def test_who_cannot_tell_is_named() -> None:
    plugins = [adopt(AGEMPlugin(1, 1)), adopt(ReplayPlugin(mem_size=4)), StrategyPlugin()]
    assert midway.why_not(plugins) == "AGEMPlugin, StrategyPlugin"
    check_midway("they", lambda: [AGEMPlugin(1, 1)])


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_moments_lie_as_their_weights_do(kind, tmp_path) -> None:
    """What the optimizer computes with must not depend on where it comes from."""
    network = torch.nn.Conv3d(2, 3, 3).to(memory_format=torch.channels_last_3d)
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    one, other = (kind(network.parameters(), lr=0.1, **options) for _ in range(2))
    network(torch.rand(1, 2, 4, 4, 4)).sum().backward()
    one.step()
    checkpoint.save(tmp_path / "state", one.state_dict())
    other.load_state_dict(checkpoint.load(tmp_path / "state"))
    midway._lay_out(other)
    for parameter, own in one.state.items():
        for name, value in own.items():
            assert torch.equal(value, other.state[parameter][name])
            assert value.stride() == other.state[parameter][name].stride()
