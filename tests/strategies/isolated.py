"""Worlds of more experiences for methods that isolate them."""

from typing import Any

from tiny import World

from lifelong_ct.avalanche_bridge.plugin import Arrival

ORGANS = ("liver", "spleen")


def world(plugin: Any, *arrivals: tuple[str, tuple[str, ...]], **more: Any) -> World:
    """Two hospitals by turns; `arrivals` are hospital and organs of each experience."""
    given = arrivals or (("first", ("liver",)), ("second", ORGANS))
    names = [name for name, _ in given]
    bind = {
        "arrivals": [Arrival(*a) for a in given],
        "hospitals": names,
        "sharing": dict.fromkeys(names, "features"),
    }
    made = World(plugin, bind={**bind, **more.pop("bind", {})}, **more)
    made.learner.model = plugin.shape(made.learner.model)
    return made


def learn(made: World, count: int, steps: int = 1) -> None:
    """The experiences 0 … count - 1; the second hospital comes again and again."""
    for i in range(count):
        made.learn(min(i, 1), steps=steps)
