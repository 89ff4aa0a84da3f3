"""Avalanche's own plugins, made resumable and bounded without a change to them.

Their attributes that are tensors, `ParamData`, JSON values or containers of these are captured. Buffers
that are datasets of indices keep every source alive, so their items are copied into memory that the
ledger knows; loaders and iterators over them are made anew at the start of each experience.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import Any

import torch
from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader
from avalanche.training.plugins import AGEMPlugin
from avalanche.training.utils import ParamData
from torch.utils.data import Dataset, TensorDataset

from lifelong_ct.avalanche_bridge import AvalancheDataset, SupervisedPlugin
from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes
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
    for kind in type(plugin).__mro__:
        if kind.__name__ in _REFUSED:
            why, instead = _REFUSED[kind.__name__]
            raise LifelongCTError(
                f"{kind.__name__} of Avalanche cannot be used here: {why}", "strategy.plugins", instead
            )
    return StockPlugin(plugin)


_INDICES = ("it keeps every hospital's dataset alive, beside the ledger and `sharing`", "use strategy=replay")
_CLASSES = ("it expects one class per sample, not one per voxel", "use strategy=replay, ewc or lwf")
_REFUSED = {
    "LwFPlugin": ("its distillation loss grows with the number of voxels", "use strategy=lwf"),
    "SynapticIntelligencePlugin": ("on CPU it aliases the live weights and does nothing", "use strategy=si"),
    "RWalkPlugin": ("it leaves the model in eval mode", "use strategy=rwalk"),
    "ReplayPlugin": _INDICES,
    "GDumbPlugin": _INDICES,
    "GEMPlugin": _INDICES,
    "RARPlugin": _INDICES,
    "MIRPlugin": _INDICES,
    "BiCPlugin": _CLASSES,
    "CoPEPlugin": _CLASSES,
    "CWRStarPlugin": _CLASSES,
    "GSS_greedyPlugin": _CLASSES,
    "LFLPlugin": _CLASSES,
}


class StockPlugin(StrategyPlugin):
    """Forwards every hook to a stock plugin and captures its attributes.

    Args:
        plugin: an instance of one of Avalanche's `SupervisedPlugin`s.
    """

    def __init__(self, plugin: SupervisedPlugin) -> None:
        super().__init__()
        self.plugin = plugin
        self._loaded: dict[str, Any] = {}
        for name in dir(plugin):
            if name.startswith(("before_", "after_")):
                setattr(self, name, getattr(plugin, name))
        self.before_training_exp = self._before_experience
        self.after_training_exp = self._after_experience

    def _before_experience(self, strategy: Any, **kwargs: Any) -> None:
        for name, value in self._loaded.items():  # it came to the CPU
            setattr(self.plugin, name, decode(_to(value, strategy.device)))
        self._loaded = {}
        self.plugin.before_training_exp(strategy, **kwargs)

    def _after_experience(self, strategy: Any, **kwargs: Any) -> None:
        self.plugin.after_training_exp(strategy, **kwargs)
        self.context.ledger.admit("gpu", type(self.plugin).__name__, self.held_bytes()["gpu"])

    def state_dict(self) -> dict[str, Any]:
        return {name: encode(value) for name, value in vars(self.plugin).items() if _can_encode(value)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self.plugin, name, decode(value))
        self._loaded = state

    def lost_on_resume(self) -> list[str]:
        """Attributes that a checkpoint cannot hold."""
        return [name for name, value in vars(self.plugin).items() if not _can_encode(value)]

    def held_bytes(self) -> dict[str, int]:
        return {"gpu": tensor_bytes(self.state_dict())}


class StockAGEM(StockPlugin):
    """A-GEM (Chaudhry et al., ICLR 2019) of Avalanche with its memory copied out of the datasets.

    Only hospitals that share patches are kept. The memory grows by `patterns_per_experience` patches with
    each of them.
    """

    plugin: AGEMPlugin

    def _before_experience(self, strategy: Any, **kwargs: Any) -> None:
        """The loader is made anew, so that a resumed run draws what an uninterrupted one does."""
        if self.plugin.buffers:
            self.plugin.buffer_dataloader = GroupBalancedInfiniteDataLoader(
                self.plugin.buffers, batch_size=max(1, self.plugin.sample_size // len(self.plugin.buffers))
            )
            self.plugin.buffer_dliter = iter(self.plugin.buffer_dataloader)

    def _after_experience(self, strategy: Any, **kwargs: Any) -> None:
        """As `AGEMPlugin.update_memory`, with copies."""
        hospital = self.context.hospitals[strategy.clock.train_exp_counter]
        if self.context.sharing.get(hospital) != "patches":
            return
        dataset = strategy.experience.dataset
        chosen = list(range(len(dataset)))
        random.shuffle(chosen)
        chosen = chosen[: self.plugin.patterns_per_experience]
        self._admit(self.held_bytes()["exemplars"] + len(chosen) * tensor_bytes(dataset[chosen[0]]))
        pairs = [dataset[i] for i in chosen]
        x, y = (torch.stack([torch.as_tensor(pair[k]) for pair in pairs]) for k in (0, 1))
        self.plugin.buffers.append(_in_memory(x, y))

    def _admit(self, nbytes: int) -> None:
        for kind in ("ram", "exemplars"):
            self.context.ledger.admit(kind, "A-GEM memory", nbytes)
            self.context.ledger.use(kind, "A-GEM memory", nbytes)

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        keeping = [h for h in self.context.hospitals if self.context.sharing.get(h) == "patches"]
        patch = math.prod(self.context.patch) * (2 * self.context.channels + 1)  # int16 each, uint8 codes
        total = len(keeping) * self.plugin.patterns_per_experience * patch
        return {"ram": total, "exemplars": total}

    def state_dict(self) -> dict[str, Any]:
        return {"buffers": [_tensors(buffer) for buffer in self.plugin.buffers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._admit(tensor_bytes(state["buffers"]))
        self.plugin.buffers = [_in_memory(*pair) for pair in state["buffers"]]

    def lost_on_resume(self) -> list[str]:
        return []

    def held_bytes(self) -> dict[str, int]:
        held = tensor_bytes([_tensors(buffer) for buffer in self.plugin.buffers])
        return {"exemplars": held, "ram": held}


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


def _to(tree: Any, device: torch.device) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.to(device)
    if isinstance(tree, dict):
        return {key: _to(value, device) for key, value in tree.items()}
    return [_to(item, device) for item in tree] if isinstance(tree, list) else tree
