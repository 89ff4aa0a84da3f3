"""Avalanche's own plugins, made resumable and bounded without a change to them.

Their attributes that are tensors, `ParamData`, JSON values or containers of these are captured. Buffers
that are datasets of indices keep every source alive, so their items are copied into memory that the
ledger knows; loaders and iterators over them are made anew at the start of each experience.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader
from avalanche.training.plugins import AGEMPlugin, GDumbPlugin, ReplayPlugin
from avalanche.training.utils import ParamData
from torch.utils.data import Dataset, TensorDataset

from lifelong_ct.avalanche_bridge import AvalancheDataset, SupervisedPlugin
from lifelong_ct.avalanche_bridge.plugin import StrategyContext, StrategyPlugin, tensor_bytes
from lifelong_ct.core.errors import LifelongCTError

_JSON = (str, int, float, bool, type(None))


def adopt(plugin: SupervisedPlugin) -> StrategyPlugin:
    """Gives a stock plugin a state, and copies of what it buffers.

    Raises:
        LifelongCTError: the plugin is wrong for voxels, or its buffers cannot be bounded.
    """
    if isinstance(plugin, StrategyPlugin):
        return plugin
    if isinstance(plugin, AGEMPlugin):
        return StockAGEM(plugin)
    if isinstance(plugin, (ReplayPlugin, GDumbPlugin)):
        raise LifelongCTError(
            f"{type(plugin).__name__} samples its buffer through Avalanche's own loader of whole datasets",
            "strategy.plugins",
            "use strategy=replay, whose memory is bounded in bytes",
        )
    wrong = _WRONG_FOR_VOXELS.get(type(plugin).__name__)
    if wrong:
        raise LifelongCTError(
            f"{type(plugin).__name__} of Avalanche is wrong for voxels: {wrong[0]}",
            "strategy.plugins",
            wrong[1],
        )
    return StockPlugin(plugin)


_WRONG_FOR_VOXELS = {
    "LwFPlugin": ("its distillation loss grows with the number of voxels", "use strategy=lwf"),
    "SynapticIntelligencePlugin": ("on CPU it aliases the live weights and does nothing", "use strategy=ewc"),
    "RWalkPlugin": ("it leaves the model in eval mode", "use strategy=ewc"),
}


class StockPlugin(StrategyPlugin):
    """Forwards every hook to a stock plugin and captures its attributes.

    Args:
        plugin: an instance of one of Avalanche's `SupervisedPlugin`s.
    """

    def __init__(self, plugin: SupervisedPlugin) -> None:
        super().__init__()
        self.plugin = plugin
        for name in dir(plugin):
            if name.startswith(("before_", "after_")):
                setattr(self, name, getattr(plugin, name))

    def state_dict(self) -> dict[str, Any]:
        return {name: encode(value) for name, value in vars(self.plugin).items() if _can_encode(value)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self.plugin, name, decode(value))

    def lost_on_resume(self) -> list[str]:
        """Attributes that a checkpoint cannot hold."""
        return [name for name, value in vars(self.plugin).items() if not _can_encode(value)]

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": tensor_bytes(self.state_dict())}


class StockAGEM(StockPlugin):
    """A-GEM (Chaudhry et al., ICLR 2019) of Avalanche with its memory copied out of the datasets."""

    plugin: AGEMPlugin

    def bind(self, context: StrategyContext) -> None:
        super().bind(context)
        self.before_training_exp = self._renew_iterator
        self.after_training_exp = self._copy_newest

    def _renew_iterator(self, strategy: Any, **kwargs: Any) -> None:
        if self.plugin.buffers:
            self.plugin.buffer_dataloader = GroupBalancedInfiniteDataLoader(
                self.plugin.buffers, batch_size=max(1, self.plugin.sample_size // len(self.plugin.buffers))
            )
            self.plugin.buffer_dliter = iter(self.plugin.buffer_dataloader)

    def _copy_newest(self, strategy: Any, **kwargs: Any) -> None:
        self.plugin.after_training_exp(strategy, **kwargs)
        items = self.plugin.buffers.pop()
        pairs = [items[i] for i in range(len(items))]
        x, y = (torch.stack([torch.as_tensor(pair[k]) for pair in pairs]) for k in (0, 1))
        held = sum(map(tensor_bytes, map(_tensors, self.plugin.buffers))) + tensor_bytes([x, y])
        for kind in ("ram", "exemplars"):
            self.context.ledger.admit(kind, "A-GEM memory", held)
            self.context.ledger.use(kind, "A-GEM memory", held)
        self.plugin.buffers.append(_in_memory(x, y))

    def state_dict(self) -> dict[str, Any]:
        plain = {"patterns_per_experience": self.plugin.patterns_per_experience}
        return {**plain, "buffers": [_tensors(buffer) for buffer in self.plugin.buffers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.plugin.buffers = [_in_memory(*pair) for pair in state["buffers"]]

    def lost_on_resume(self) -> list[str]:
        return []

    def held_bytes(self) -> dict[str, int]:
        return {"exemplars": tensor_bytes(self.state_dict())}


class _Pairs(TensorDataset):
    """Keeps its tensors findable inside Avalanche's wrappers."""


def _in_memory(x: torch.Tensor, y: torch.Tensor) -> AvalancheDataset:
    pairs = _Pairs(x, y)
    dataset = AvalancheDataset([pairs])
    dataset.lifelong_pairs = pairs
    return dataset


def _tensors(dataset: Dataset[Any]) -> list[torch.Tensor]:
    return list(dataset.lifelong_pairs.tensors)  # type: ignore[attr-defined]


def _can_encode(value: Any) -> bool:
    if isinstance(value, (*_JSON, torch.Tensor, ParamData)):
        return True
    if isinstance(value, dict):
        return all(isinstance(key, (str, int)) for key in value) and all(map(_can_encode, value.values()))
    return isinstance(value, (list, tuple)) and all(map(_can_encode, value))


def encode(value: Any) -> Any:
    """Attributes of stock plugins → tensors and JSON values; dictionaries keep the type of their keys."""
    if isinstance(value, ParamData):
        return {"__param__": value.name, "data": value.data.detach().clone()}
    if isinstance(value, dict):
        kind = "defaultdict" if isinstance(value, defaultdict) else "dict"
        return {"__dict__": kind, "keys": list(value), "values": [encode(v) for v in value.values()]}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, dict) and "__param__" in value:
        data = value["data"]
        return ParamData(value["__param__"], data.shape, init_tensor=data, device=data.device)
    if isinstance(value, dict) and "__dict__" in value:
        plain = dict(zip(value["keys"], map(decode, value["values"]), strict=True))
        return defaultdict(dict, plain) if value["__dict__"] == "defaultdict" else plain
    return [decode(item) for item in value] if isinstance(value, list) else value
