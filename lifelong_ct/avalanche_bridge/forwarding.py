"""A stock plugin with a state: its hooks run as Avalanche wrote them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.avalanche_bridge.encoding import can_encode, decode, encode, on_device
from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes


class StockPlugin(StrategyPlugin):
    """Forwards every hook to a stock plugin and captures its attributes.

    Those that are tensors, `ParamData`, JSON values or containers of these come back in a resumed run.

    Args:
        plugin: an instance of one of Avalanche's `SupervisedPlugin`s.
    """

    def __init__(self, plugin: SupervisedPlugin) -> None:
        super().__init__()
        self.plugin = plugin
        self._loaded: dict[str, Any] = {}
        own = {"before_training_exp": self._before_experience, "after_training_exp": self._after_experience}
        for name in dir(plugin):
            if name.startswith(("before_", "after_")):
                setattr(self, name, self._restoring(own.get(name, getattr(plugin, name))))

    def _restoring(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """A loaded state came to the CPU; the first hook to fire knows the device."""

        def fire(strategy: Any, *args: Any, **kwargs: Any) -> Any:
            if self._loaded:
                for name, value in self._loaded.items():
                    setattr(self.plugin, name, decode(on_device(value, strategy.device)))
                self._loaded = {}
            return hook(strategy, *args, **kwargs)

        return fire

    def _before_experience(self, strategy: Any, **kwargs: Any) -> None:
        self.plugin.before_training_exp(strategy, **kwargs)

    def _after_experience(self, strategy: Any, **kwargs: Any) -> None:
        self.plugin.after_training_exp(strategy, **kwargs)
        self.context.ledger.admit("gpu", type(self.plugin).__name__, self.held_bytes()["gpu"])

    def state_dict(self) -> dict[str, Any]:
        return {name: encode(value) for name, value in vars(self.plugin).items() if can_encode(value)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self.plugin, name, decode(value))
        self._loaded = state

    def lost_on_resume(self) -> list[str]:
        """Attributes that a checkpoint cannot hold."""
        return [name for name, value in vars(self.plugin).items() if not can_encode(value)]

    def state_within(self) -> dict[str, Any] | None:
        """Its attributes, where all of them can be told."""
        return None if self.lost_on_resume() else self.state_dict()

    def load_state_within(self, state: dict[str, Any], strategy: Any) -> None:
        self.load_state_dict(state)

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": tensor_bytes(self.state_dict())}
