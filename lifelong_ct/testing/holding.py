"""What a strategy holds does not grow with the hospitals, or as it declares."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.avalanche_bridge.forwarding import StockPlugin
from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes
from lifelong_ct.testing.world import TinyWorld

FEW, MANY = 2, 20
_LOOSE = 1 << 10
"""Bytes of counters and thresholds that a plugin need not tell."""


def check_flat(name: str, plugins: Callable[[], Sequence[SupervisedPlugin]], grows: str | None) -> None:
    """After 20 hospitals of the same organs the state is as large as after 2; exemplars may fill their budget meanwhile.

    A strategy whose YAML says by which formula it `grows` stays inside `declared_bytes` instead, which knows the number of
    hospitals from the context.

    Args:
        name: for messages.
        plugins: makes them.
        grows: of the YAML.

    Raises:
        AssertionError: it grew, holds more than it declared, or more than it tells.
    """
    world = TinyWorld(plugins, MANY)
    sizes: dict[int, list[_Size]] = {}
    for hospital in range(MANY):
        world.learn(hospital)
        if hospital + 1 in (FEW, MANY):
            for plugin, limit in zip(world.plugins, world.declared, strict=True):
                check_told(name, plugin, limit)
            sizes[hospital + 1] = [_size(plugin) for plugin in world.plugins]
    if grows is not None:
        return
    for plugin, limit, few, many in zip(world.plugins, world.declared, sizes[FEW], sizes[MANY], strict=True):
        room = max(0, limit.get("exemplars", 0) - few.exemplars)
        fits = many.state <= few.state + room and few.others == many.others
        fits = fits and (bool(limit.get("exemplars")) or few == many)
        assert fits or isinstance(plugin, StockPlugin), (
            f"{name}: {type(plugin).__name__} holds {few.state} bytes of state after {FEW} hospitals and {many.state} after "
            f"{MANY}, which annotate the same organs; keep less, or write `grows: <formula>` in the YAML"
        )


def check_told(name: str, plugin: StrategyPlugin, declared: dict[str, int]) -> None:
    """`held_bytes` is not below the tensors of the state, and not above `declared_bytes`.

    A plugin of Avalanche's own declares nothing; the ledger is asked when it holds more.
    """
    if isinstance(plugin, StockPlugin) and not declared:
        return
    held, kind = plugin.held_bytes(), type(plugin).__name__
    for where, nbytes in held.items():
        assert nbytes <= declared.get(where, 0), f"{name}: {kind} holds {held}, declared {declared}"
    state = tensor_bytes(plugin.state_dict())
    assert state <= sum(held.values()) + _LOOSE, (
        f"{name}: the tensors in the state of {kind} are {state} bytes, held_bytes tells {held}"
    )


@dataclass(frozen=True)
class _Size:
    """Bytes of a state, of exemplars, and of all that is neither exemplars nor RAM (where exemplars count too)."""

    state: int
    exemplars: int
    others: int


def _size(plugin: StrategyPlugin) -> _Size:
    """Of a state: its tensors, and 8 bytes for each other value, since a counter may get more digits and a list not more
    entries."""
    state, held = plugin.state_dict(), plugin.held_bytes()
    others = sum(nbytes for kind, nbytes in held.items() if kind not in ("exemplars", "ram"))
    values = _values(json.loads(json.dumps(state, default=lambda tensor: None)))
    return _Size(tensor_bytes(state) + 8 * values, held.get("exemplars", 0), others)


def _values(tree: Any) -> int:
    if isinstance(tree, (dict, list)):
        return sum(map(_values, tree.values() if isinstance(tree, dict) else tree))
    return tree is not None
