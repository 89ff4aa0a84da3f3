"""Avalanche's own plugins, made resumable and bounded without a change to them.

`verdicts` says which may run, `forwarding` runs them, `buffers` copies what they would keep by index.
"""

from __future__ import annotations

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.avalanche_bridge.buffers import StockAGEM, StockReplay
from lifelong_ct.avalanche_bridge.encoding import decode, encode
from lifelong_ct.avalanche_bridge.forwarding import StockPlugin
from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.avalanche_bridge.verdicts import check

__all__ = ["BRIDGES", "StockAGEM", "StockPlugin", "StockReplay", "adopt", "decode", "encode"]

BRIDGES: dict[str, type[StockPlugin]] = {"AGEMPlugin": StockAGEM, "ReplayPlugin": StockReplay}
"""Classes of `verdicts.BRIDGE` → what runs them."""


def adopt(plugin: SupervisedPlugin) -> StrategyPlugin:
    """Gives a stock plugin a state, and copies of what it buffers. What derives from `StrategyPlugin` stays as it is.

    Raises:
        LifelongCTError: the plugin is wrong for voxels, or its buffers cannot be bounded.
    """
    if isinstance(plugin, StrategyPlugin):
        return plugin
    check(type(plugin))
    kinds = (BRIDGES[kind.__name__] for kind in type(plugin).__mro__ if kind.__name__ in BRIDGES)
    return next(kinds, StockPlugin)(plugin)
