"""Stock plugins that keep datasets of indices, with their items copied into memory that the ledger knows.

Indices would keep every hospital's dataset alive, beside the limits and `sharing`. Copies are int16 patches and codes as
the dataset of the experience gives them: patch i of case i.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Any

import torch
from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader
from avalanche.training.plugins import AGEMPlugin, ReplayPlugin
from avalanche.training.storage_policy import ExperienceBalancedBuffer, ReservoirSamplingBuffer
from torch.utils.data import Dataset

from lifelong_ct.avalanche_bridge.copying import copied, in_memory, items, state_of, tensors_of
from lifelong_ct.avalanche_bridge.forwarding import StockPlugin
from lifelong_ct.avalanche_bridge.plugin import tensor_bytes
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory import copies
from lifelong_ct.memory.parts import behind


class CopyingPlugin(StockPlugin):
    """What both share: copies of patches of the hospitals that share them, asked for under `ram` and `exemplars`."""

    title = "copies"

    def _shared(self, strategy: Any) -> bool:
        hospital = self.context.hospitals[strategy.clock.train_exp_counter]
        return self.context.sharing.get(hospital) == "patches"

    def _sharing(self) -> list[str]:
        return [h for h in self.context.hospitals if self.context.sharing.get(h) == "patches"]

    def _admit(self, nbytes: int) -> None:
        for kind in ("ram", "exemplars"):
            self.context.ledger.admit(kind, self.title, nbytes)
            self.context.ledger.use(kind, self.title, nbytes)

    def _declared(self, patches: int) -> dict[str, int]:
        """int16 per channel, and a byte of code per voxel."""
        total = patches * math.prod(self.context.patch) * (2 * self.context.channels + 1)
        return {"ram": total, "exemplars": total}

    def _held(self, datasets: Iterable[Dataset[Any]]) -> dict[str, int]:
        """They are the exemplars; that these lie in RAM the ledger is told, and nobody counts them twice."""
        return {"exemplars": tensor_bytes([tensors_of(dataset) for dataset in datasets])}

    def lost_on_resume(self) -> list[str]:
        return []

    def replayed(self) -> int | None:
        return None


class StockAGEM(CopyingPlugin):
    """A-GEM (Chaudhry et al., ICLR 2019) of Avalanche with its memory copied out of the datasets.

    Only hospitals that share patches are kept. The memory grows by `patterns_per_experience` patches with
    each of them.
    """

    plugin: AGEMPlugin
    title = "A-GEM memory"

    def _before_experience(self, strategy: Any, **kwargs: Any) -> None:
        """The loader is made anew, so that a resumed run draws what an uninterrupted one does."""
        if self.plugin.buffers:
            self.plugin.buffer_dataloader = GroupBalancedInfiniteDataLoader(
                self.plugin.buffers, batch_size=max(1, self.plugin.sample_size // len(self.plugin.buffers))
            )
            self.plugin.buffer_dliter = iter(self.plugin.buffer_dataloader)

    def _after_experience(self, strategy: Any, **kwargs: Any) -> None:
        """As `AGEMPlugin.update_memory`, with copies."""
        if not self._shared(strategy):
            return
        dataset = strategy.experience.dataset
        chosen = list(range(len(dataset)))
        random.shuffle(chosen)
        chosen = chosen[: self.plugin.patterns_per_experience]
        self._admit(self.held_bytes()["exemplars"] + len(chosen) * tensor_bytes(dataset[chosen[0]]))
        self.plugin.buffers.append(copied(dataset, chosen))

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return self._declared(len(self._sharing()) * self.plugin.patterns_per_experience)

    def state_dict(self) -> dict[str, Any]:
        return {"buffers": [state_of(buffer) for buffer in self.plugin.buffers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Buffers whose patients have all withdrawn are gone."""
        self._admit(tensor_bytes(state["buffers"]))
        found = map(copies.opened, state["buffers"])
        self.plugin.buffers = [in_memory(own["x"], own["y"], told) for own, told in found if told]

    def state_within(self) -> dict[str, Any] | None:
        """Where Avalanche's loader is in its memory nobody can tell."""
        return None

    def held_bytes(self) -> dict[str, int]:
        return self._held(self.plugin.buffers)


class StockReplay(CopyingPlugin):
    """Replay of Avalanche: `mem_size` patches with an equal share for each hospital, as its storage policy chooses them.

    Avalanche mixes them into the loader, which is ours here, so they join the micro-batch in `before_forward`:
    `batch_size_mem` of them, in a shuffled order that begins anew when all have been.

    Raises:
        LifelongCTError: another storage policy, or options of the loader that it replaces.
    """

    plugin: ReplayPlugin
    title = "stock replay memory"

    def __init__(self, plugin: ReplayPlugin) -> None:
        super().__init__(plugin)
        if type(plugin.storage_policy) is not ExperienceBalancedBuffer:
            raise LifelongCTError(
                f"{type(plugin.storage_policy).__name__} cannot be copied into bounded memory",
                "strategy.plugins",
                "leave storage_policy out, or use strategy=replay with a selection policy",
            )
        if plugin.batch_size is not None or plugin.task_balanced_dataloader:
            raise LifelongCTError(
                "batch_size and task_balanced_dataloader belong to a loader that is not used here",
                "strategy.plugins",
                "leave them out; trainer.batch_size is the number of new patches",
            )
        self._order: list[int] = []
        self._mixed = 0
        self.before_forward = self._mix

    def _before_experience(self, strategy: Any, **kwargs: Any) -> None:
        self._order = []

    def _after_experience(self, strategy: Any, **kwargs: Any) -> None:
        """The policy chooses among all items; then what it chose is copied and the datasets are let go."""
        dataset, policy = strategy.experience.dataset, self.plugin.storage_policy
        if not self._shared(strategy):
            return
        self._admit(min(self.plugin.mem_size, self._count() + len(dataset)) * tensor_bytes(dataset[0]))
        policy.post_adapt(strategy, strategy.experience)
        # with fewer patches than hospitals a new one has none, now and ever after
        policy.buffer_groups = {key: g for key, g in policy.buffer_groups.items() if len(g.buffer)}
        for group in policy.buffer_groups.values():
            group.buffer = copied(group.buffer, range(len(group.buffer)))
        self._admit(self.held_bytes()["exemplars"])

    def _mix(self, strategy: Any, **kwargs: Any) -> None:
        buffer = self.plugin.storage_policy.buffer
        if len(buffer) == 0:
            return
        count = self.plugin.batch_size_mem or strategy.train_mb_size
        while len(self._order) < count:
            self._order += torch.randperm(len(buffer)).tolist()
        chosen, self._order = self._order[:count], self._order[count:]
        self._mixed += count
        x, y = strategy.mbatch[:2]
        strategy.mbatch[:2] = behind(x, y, items(buffer, chosen))

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return self._declared(self.plugin.mem_size)

    def state_dict(self) -> dict[str, Any]:
        policy = self.plugin.storage_policy
        groups = [
            [key, state_of(group.buffer, weights=group._buffer_weights)]
            for key, group in policy.buffer_groups.items()
        ]
        return {"groups": groups, "experiences": policy._num_exps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Groups whose patients have all withdrawn are gone."""
        policy = ExperienceBalancedBuffer(self.plugin.mem_size)
        lengths = policy.get_group_lengths(max(1, state["experiences"]))
        for length, (key, own, *_) in zip(lengths, state["groups"]):
            tensors, patients = copies.opened(own)
            if patients:
                group = ReservoirSamplingBuffer(length)
                group.buffer = in_memory(tensors["x"], tensors["y"], patients)
                group._buffer_weights = tensors["weights"]
                policy.buffer_groups[key] = group
        policy._num_exps = state["experiences"]
        self.plugin.storage_policy = policy
        self._admit(self.held_bytes()["exemplars"])

    def state_within(self) -> dict[str, Any]:
        """What is left of the shuffled order; the memory waits for the end of the experience."""
        return {"order": list(self._order)}

    def load_state_within(self, state: dict[str, Any], strategy: Any) -> None:
        self._order = list(state["order"])

    def held_bytes(self) -> dict[str, int]:
        return self._held(group.buffer for group in self.plugin.storage_policy.buffer_groups.values())

    def replayed(self) -> int:
        return self._mixed

    def _count(self) -> int:
        return sum(len(group.buffer) for group in self.plugin.storage_policy.buffer_groups.values())
